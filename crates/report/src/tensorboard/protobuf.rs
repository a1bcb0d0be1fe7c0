//! The few messages of an event file, in protocol buffers' wire format.
//!
//! Field numbers are those of TensorFlow's `event.proto`, `summary.proto`, `tensor.proto` and `tensor_shape.proto`.

use super::{Moment, Picture};

const DT_STRING: u64 = 7;
/// `DATA_CLASS_TENSOR`: TensorBoard asks for it before it shows a tensor.
const DATA_CLASS_TENSOR: u64 = 2;
const RGB: u64 = 3;

/// A message being written.
#[derive(Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn double(mut self, field: u64, value: f64) -> Self {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn message(self, field: u64, value: Self) -> Self {
        self.bytes(field, value.0)
    }
}

/// The first event of a file.
pub(crate) fn version_event(wall_time: f64) -> Vec<u8> {
    Message::default().double(1, wall_time).bytes(3, "brain.Event:2").0
}

/// An event of a step, with its values.
pub(crate) fn event(at: Moment, values: impl IntoIterator<Item = Message>) -> Vec<u8> {
    let summary = values.into_iter().fold(Message::default(), |summary, value| summary.message(1, value));
    Message::default().double(1, at.wall_time).number(2, at.step).message(5, summary).0
}

/// A number. TensorBoard holds single precision.
pub(crate) fn scalar(tag: &str, value: f64) -> Message {
    Message::default().bytes(1, tag).float(2, value as f32)
}

/// A text: a tensor of one string, with the metadata by which the text plugin knows it.
pub(crate) fn text(tag: &str, markdown: &str) -> Message {
    let plugin = Message::default().bytes(1, "text");
    let metadata = Message::default().message(1, plugin).number(4, DATA_CLASS_TENSOR);
    let shape = Message::default().message(2, Message::default().number(1, 1));
    let tensor = Message::default().number(1, DT_STRING).message(2, shape).bytes(8, markdown);
    Message::default().bytes(1, tag).message(8, tensor).message(9, metadata)
}

/// A picture. The caption is the summary's description.
pub(crate) fn image(tag: &str, picture: &Picture) -> Message {
    let (height, width) = (u64::from(picture.height), u64::from(picture.width));
    let image = Message::default().number(1, height).number(2, width).number(3, RGB).bytes(4, picture.png);
    let metadata = Message::default().message(1, Message::default().bytes(1, "images")).bytes(3, picture.caption);
    Message::default().bytes(1, tag).message(4, image).message(9, metadata)
}

#[cfg(test)]
mod tests {
    use super::{Message, event, scalar, version_event};
    use crate::tensorboard::Moment;

    #[test]
    fn varints_are_as_in_the_specification() {
        // https://protobuf.dev/programming-guides/encoding: field 1 is 150
        assert_eq!(Message::default().number(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().number(1, u64::MAX).0.len(), 11);
        assert_eq!(Message::default().bytes(2, "testing").0, *b"\x12\x07testing");
    }

    #[test]
    fn messages_are_what_tensorflow_writes() {
        let wall_time = 1.5_f64.to_le_bytes();
        assert_eq!(version_event(1.5), [&[0x09][..], &wall_time, b"\x1a\x0dbrain.Event:2"].concat());
        let expected = [&[0x09][..], &wall_time, b"\x10\x07\x2a\x0a\x0a\x08\x0a\x01a\x15\x00\x00\x00\x40"].concat();
        assert_eq!(event(Moment { step: 7, wall_time: 1.5 }, [scalar("a", 2.0)]), expected);
    }
}

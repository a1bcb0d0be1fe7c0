//! Writing an event file.

use super::crc::masked;
use super::protobuf::{self, Message};
use std::io::{self, Write};

/// When something was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Steps done.
    pub step: u64,
    /// Seconds since 1970.
    pub wall_time: f64,
}

/// A PNG file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picture<'a> {
    /// The whole file.
    pub png: &'a [u8],
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Shown with the picture; TensorBoard takes the first one of a tag.
    pub caption: &'a str,
}

/// Writes events one after another, each in a record with checksums. TensorBoard reads files whose name contains `tfevents`.
#[derive(Debug)]
pub struct EventWriter<W: Write> {
    out: W,
}

impl<W: Write> EventWriter<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// When the writer fails, as in all functions here.
    pub fn new(out: W, wall_time: f64) -> io::Result<Self> {
        let mut writer = Self { out };
        writer.record(&protobuf::version_event(wall_time))?;
        Ok(writer)
    }

    /// Appends numbers of one step. They are stored in single precision.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn scalars<'a>(&mut self, at: Moment, values: impl IntoIterator<Item = (&'a str, f64)>) -> io::Result<()> {
        self.event(at, values.into_iter().map(|(tag, value)| protobuf::scalar(tag, value)))
    }

    /// Appends a text, which TensorBoard shows as Markdown.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn text(&mut self, at: Moment, tag: &str, markdown: &str) -> io::Result<()> {
        self.event(at, [protobuf::text(tag, markdown)])
    }

    /// Appends a picture.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn image(&mut self, at: Moment, tag: &str, picture: &Picture) -> io::Result<()> {
        self.event(at, [protobuf::image(tag, picture)])
    }

    /// Hands what was written on to the disk.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn event(&mut self, at: Moment, values: impl IntoIterator<Item = Message>) -> io::Result<()> {
        self.record(&protobuf::event(at, values))
    }

    /// TFRecord: length, its checksum, data, its checksum; little endian.
    fn record(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        self.out.write_all(&length)?;
        self.out.write_all(&masked(&length).to_le_bytes())?;
        self.out.write_all(data)?;
        self.out.write_all(&masked(data).to_le_bytes())
    }
}

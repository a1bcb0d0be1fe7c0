//! Reading event files back, for tests; it shares nothing with the writer but the checksum.

use super::crc::masked;
use super::{EventWriter, Moment, Picture, export};
use serde_json::json;
use std::path::Path;

/// A field of a message: its number, and its value.
#[derive(Clone, Debug, PartialEq)]
enum Field<'a> {
    Varint(u64),
    Fixed(&'a [u8]),
    Bytes(&'a [u8]),
}

type Fields<'a> = Vec<(u64, Field<'a>)>;

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (head, tail) = bytes.split_at(length);
    *bytes = tail;
    head
}

fn fields(mut bytes: &[u8]) -> Fields<'_> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)),
            1 => Field::Fixed(take(&mut bytes, 8)),
            2 => {
                let length = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, length))
            }
            5 => Field::Fixed(take(&mut bytes, 4)),
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, field));
    }
    found
}

fn bytes<'a>(fields: &Fields<'a>, number: u64) -> Option<&'a [u8]> {
    fields.iter().find_map(|(found, field)| match field {
        Field::Bytes(bytes) if *found == number => Some(*bytes),
        _ => None,
    })
}

fn integer(fields: &Fields, number: u64) -> u64 {
    let found = fields.iter().find_map(|(found, field)| match field {
        Field::Varint(value) if *found == number => Some(*value),
        _ => None,
    });
    found.unwrap_or(0)
}

/// The data of each record, checksums compared.
fn records(mut file: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !file.is_empty() {
        let length = take(&mut file, 8);
        assert_eq!(take(&mut file, 4), masked(length).to_le_bytes(), "checksum of a length");
        let data = take(&mut file, u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize);
        assert_eq!(take(&mut file, 4), masked(data).to_le_bytes(), "checksum of data");
        found.push(data);
    }
    found
}

/// Step, tag and content of each value, as a line each.
fn values(file: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    for record in records(file) {
        let event = fields(record);
        let step = integer(&event, 2);
        for (_, value) in bytes(&event, 5).map(fields).unwrap_or_default() {
            let Field::Bytes(value) = value else { panic!("a summary holds messages") };
            let value = fields(value);
            let tag = String::from_utf8_lossy(bytes(&value, 1).expect("a tag")).into_owned();
            let number = value.iter().find(|(number, _)| *number == 2);
            let metadata = bytes(&value, 9).map(fields).unwrap_or_default();
            let plugin = bytes(&metadata, 1).map(fields).and_then(|plugin| bytes(&plugin, 1)).unwrap_or(b"none");
            let plugin = String::from_utf8_lossy(plugin).into_owned();
            let content = if let Some((_, Field::Fixed(number))) = number {
                f32::from_le_bytes((*number).try_into().expect("4 bytes")).to_string()
            } else if let Some(image) = bytes(&value, 4).map(fields) {
                let caption = String::from_utf8_lossy(bytes(&metadata, 3).expect("a caption")).into_owned();
                let png = bytes(&image, 4).expect("a file").len();
                format!("{}x{} {png} bytes, {caption}", integer(&image, 2), integer(&image, 1))
            } else {
                let tensor = fields(bytes(&value, 8).expect("a tensor"));
                let shape = fields(bytes(&fields(bytes(&tensor, 2).expect("a shape")), 2).expect("a dimension"));
                assert_eq!((integer(&tensor, 1), integer(&shape, 1)), (7, 1), "one string");
                assert_eq!(integer(&metadata, 4), 2, "the class of tensors");
                format!("{:?}", String::from_utf8_lossy(bytes(&tensor, 8).expect("a string")))
            };
            lines.push(format!("{step} {plugin} {tag}: {content}"));
        }
    }
    lines
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let sizes = [width.to_be_bytes(), height.to_be_bytes()].concat();
    [&b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"[..], &sizes, b"\x08\x02\0\0\0"].concat()
}

#[test]
fn what_is_written_is_read_back() {
    let mut file = Vec::new();
    let mut writer = EventWriter::new(&mut file, 12.5).expect("a file");
    let at = Moment { step: 300, wall_time: 13.5 };
    writer.scalars(at, [("reward/overall", 0.5), ("objective/loss", f64::NAN)]).expect("written");
    writer.text(at, "note", "two\nlines").expect("written");
    let png = png(300, 2);
    writer.image(at, "picture", &Picture { png: &png, width: 300, height: 2, caption: "a caption" }).expect("written");
    let expected = [
        "300 none reward/overall: 0.5".to_owned(),
        "300 none objective/loss: NaN".to_owned(),
        "300 text note: \"two\\nlines\"".to_owned(),
        format!("300 images picture: 300x2 {} bytes, a caption", png.len()),
    ];
    assert_eq!(values(&file), expected);
    let first = fields(records(&file)[0]);
    assert_eq!(bytes(&first, 3), Some(&b"brain.Event:2"[..]));
    assert_eq!(first[0], (1, Field::Fixed(&12.5_f64.to_le_bytes())));
}

fn write_run(run: &Path) {
    let metrics = [
        json!({"step": 0, "validation/overall": 0.25}),
        json!({"step": 1, "objective/loss": null, "time/step_seconds": 2.0}),
        json!({"step": 2, "objective/loss": 1.5, "time/step_seconds": 4.0}),
    ];
    let sample = |response: &str, group: u64, reward: f64| {
        json!({"step": 2, "row": "row 7", "problem": "How\nmany?", "answer": "2", "response": response, "reward": reward,
            "parts": {}, "advantage": null, "tokens": 3, "group": group, "picture": "a.png", "masked_picture": ["gone.png"]})
    };
    let samples = [sample("</pre><b>2", 0, 1.0), sample("3", 0, 0.0), sample("2", 1, 1.0)];
    let text = |lines: &[serde_json::Value]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    std::fs::write(run.join("metrics.jsonl"), text(&metrics)).expect("written");
    std::fs::write(run.join("samples.jsonl"), text(&samples)).expect("written");
    std::fs::write(run.join("a.png"), png(4, 5)).expect("written");
}

#[test]
fn a_run_becomes_one_event_file() {
    let folder = tempfile::tempdir().expect("a folder");
    write_run(folder.path());
    let out = folder.path().join("events");
    let exported = export(folder.path(), &out).expect("exported");
    assert_eq!((exported.num_scalars, exported.num_texts, exported.num_pictures), (5, 2, 2));
    assert_eq!(exported.notes.len(), 1, "{:?}", exported.notes);
    assert!(exported.notes[0].contains("1 pictures that samples.jsonl names are not there, the first: gone.png"));
    let file = std::fs::read(&exported.path).expect("the event file");
    let lines = values(&file);
    assert_eq!(
        lines[..3],
        ["0 none validation/overall: 0.25", "1 none objective/loss: NaN", "1 none time/step_seconds: 2"]
    );
    let text = "2 text samples/prompt_0: \"**row 7**\\n\\n    How\\n    many?\\n\\nanswer\\n\\n    2\\n\\nright, reward 1.0000, \
        advantage not finite, 3 tokens\\n\\n    </pre><b>2\\n\\nwrong, reward 0.0000, advantage not finite, 3 tokens\\n\\n    3\\n\"";
    assert_eq!(lines[5], text);
    assert_eq!(
        lines[6],
        "2 images samples/prompt_0/picture: 4x5 29 bytes, picture of the prompt whose text is samples/prompt_0"
    );
    // the last step's time is the file's, and steps are as far apart as they took
    let time = |record: usize| match fields(records(&file)[record])[0].1 {
        Field::Fixed(bytes) => f64::from_le_bytes(bytes.try_into().expect("8 bytes")),
        ref other => panic!("{other:?}"),
    };
    assert_eq!((time(2) - time(1), time(3) - time(2), time(4) - time(3)), (2.0, 4.0, 0.0));
    // a second export takes the place of the first
    export(folder.path(), &out).expect("exported");
    assert_eq!(std::fs::read_dir(&out).expect("the folder").count(), 1);
}

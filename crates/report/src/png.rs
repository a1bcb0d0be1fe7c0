//! A PNG file's size in pixels, from its header.

/// Width and height of a PNG file, or `None` when it is not one.
pub(crate) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    // signature, then the header chunk: length, name, width, height
    let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?.get(4..16)?.strip_prefix(b"IHDR")?;
    let number = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    Some((number(0)?, number(4)?)).filter(|(width, height)| *width > 0 && *height > 0)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn the_size_is_in_the_header() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x01\x02\0\0\0\x03\x08\x02\0\0\0";
        assert_eq!(size(png), Some((258, 3)));
        assert_eq!(size(&png[..20]), None);
        assert_eq!(size(b"\xff\xd8\xff\xe0JFIF"), None);
        assert_eq!(size(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\0\0\0\0\x03"), None);
    }
}

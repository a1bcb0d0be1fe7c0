//! A PNG file of circles, without compression.

const SIDE: usize = 112;
const CELL: usize = 14;

/// Red circles (middle and radius as shares of the side); the masked twin has black cells.
pub fn circles(circles: &[[f64; 3]], is_masked: bool, seed: u64) -> Vec<u8> {
    let mut rows = Vec::with_capacity(SIDE * (1 + 3 * SIDE));
    for y in 0..SIDE {
        rows.push(0);
        for x in 0..SIDE {
            let cell = (y / CELL * 8 + x / CELL) as u64;
            let hash = (cell + 64 * seed)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(31)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let is_black = is_masked && (hash >> 40) % 10 < 6;
            let share = |at: usize| at as f64 / SIDE as f64;
            let inside = |[cx, cy, r]: &[f64; 3]| (share(x) - cx).powi(2) + (share(y) - cy).powi(2) < r * r;
            let colour = if is_black {
                [0, 0, 0]
            } else if circles.iter().any(inside) {
                [208, 44, 40]
            } else {
                [226, 232, 238]
            };
            rows.extend(colour);
        }
    }
    let side = (SIDE as u32).to_be_bytes();
    let header = [&side[..], &side, &[8, 2, 0, 0, 0]].concat();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, data) in [(b"IHDR", header), (b"IDAT", stored(&rows)), (b"IEND", Vec::new())] {
        file.extend((data.len() as u32).to_be_bytes());
        let named = [&name[..], &data].concat();
        file.extend(&named);
        file.extend(crc32(&named).to_be_bytes());
    }
    file
}

/// A zlib stream of stored blocks.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut chunks = bytes.chunks(65_535).peekable();
    while let Some(chunk) = chunks.next() {
        let length = chunk.len() as u16;
        stream.push(u8::from(chunks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(chunk);
    }
    let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}

fn crc32(bytes: &[u8]) -> u32 {
    let next = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(!0, next)
}

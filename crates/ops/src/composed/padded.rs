//! Padding to few shapes.

/// The padded length of so many tokens: 16, 24, 32, 48, 64, ... At most a third is padding beyond 16 tokens.
pub(crate) fn bucket(tokens: usize) -> usize {
    let power = tokens.next_power_of_two().max(16);
    let between = power / 4 * 3;
    if between >= 16 && tokens <= between { between } else { power }
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn buckets_are_few_and_near() {
        let padded: Vec<usize> = [1, 16, 17, 24, 25, 33, 49, 64, 65, 97, 1000, 1025].map(bucket).to_vec();
        assert_eq!(padded, [16, 16, 24, 24, 32, 48, 64, 64, 96, 128, 1024, 1536]);
        for tokens in 17..5000 {
            assert!(bucket(tokens) >= tokens && bucket(tokens) * 2 < tokens * 3, "{tokens}: {}", bucket(tokens));
        }
    }
}

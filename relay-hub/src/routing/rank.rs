//! In which order accounts stand for a tenant or a conversation: rendezvous hashing by weight. Pure, and the same on every
//! machine and in every release, so that an account that is added takes its own share and moves nothing else.

/// The number of a text in the ranking.
pub(super) fn number(parts: &[&[u8]]) -> u64 {
    digest(parts)
        .iter()
        .take(8)
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// SHA-256 over parts, each with its length, so that no two lists of parts are one text.
pub(super) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut text = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part);
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    out
}

/// How far up an account stands for a key: the best of as many tickets as it has weight.
pub(super) fn score(key: u64, account: u64, weight: u8) -> u64 {
    let ticket = |at: u8| mix(key ^ mix(account.wrapping_add(u64::from(at).wrapping_mul(STEP))));
    (0..weight.max(1)).map(ticket).max().unwrap_or_default()
}

/// The finalizer of `SplitMix64`: each bit of the result depends on each bit of `x`.
const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    fn first(key: u64, accounts: &[(u64, u8)]) -> u64 {
        let best = accounts
            .iter()
            .max_by_key(|(account, weight)| score(key, *account, *weight));
        best.unwrap().0
    }

    #[test]
    fn an_account_that_is_added_takes_its_share_and_moves_nothing_else() {
        let number = |name: u64| number(&[&name.to_be_bytes()]);
        let before: Vec<_> = (0..9).map(|name| (number(name), 1)).collect();
        let after = [&before[..], &[(number(99), 1)]].concat();
        let mut moved = 0;
        for key in (0..20_000).map(|key| number(1_000_000 + key)) {
            let (was, is) = (first(key, &before), first(key, &after));
            assert!(is == was || is == number(99), "moved between accounts that were there");
            moved += u32::from(is != was);
        }
        assert!(
            (1_700..2_300).contains(&moved),
            "a tenth should move, {moved} of 20000 did"
        );
    }

    #[test]
    fn weights_are_shares() {
        let accounts =
            [(1, 1), (2, 3), (3, 6)].map(|(name, weight): (u64, u8)| (number(&[&name.to_be_bytes()]), weight));
        let mut counts = [0_u32; 3];
        for key in 0..50_000_u64 {
            let won = first(number(&[&key.to_be_bytes()]), &accounts);
            counts[accounts.iter().position(|(account, _)| *account == won).unwrap()] += 1;
        }
        for (count, wanted) in counts.into_iter().zip([5_000, 15_000, 30_000]) {
            assert!(count.abs_diff(wanted) < 700, "{counts:?}");
        }
    }

    #[test]
    fn the_order_never_changes_between_releases() {
        assert_eq!(number(&[b"acc_0123456789abcdef"]), 0x505e_6504_d96b_2171);
        assert_eq!(score(1, 2, 3), 0xf7e8_508d_edd0_f398);
    }
}

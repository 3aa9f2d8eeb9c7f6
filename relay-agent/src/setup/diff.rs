//! What changed between two texts, line by line. Shows no unchanged line: those may hold secrets of others.

/// The removed and added lines, in order, marked `-` and `+`.
pub(super) fn diff(before: &str, after: &str) -> Vec<String> {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    changed(&old[..old.len() - tail], &new[..new.len() - tail])
}

/// By the longest common subsequence; configuration files are small.
fn changed(old: &[&str], new: &[&str]) -> Vec<String> {
    let mut longest = vec![vec![0u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i][j] = match old[i] == new[j] {
                true => longest[i + 1][j + 1] + 1,
                false => longest[i + 1][j].max(longest[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            out.push(format!("- {}", old[i]));
            i += 1;
        } else {
            out.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_lines_are_shown() {
        assert_eq!(diff("a\nb\nc\nd\n", "a\nB\nc\nd\ne\n"), ["- b", "+ B", "+ e"]);
        assert_eq!(diff("", "x\n"), ["+ x"]);
        assert_eq!(diff("same\n", "same\n"), Vec::<String>::new());
    }
}

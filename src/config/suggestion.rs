//! "Did you mean": the nearest of the names that would have been right.

/// What to say about a name that is none of `known`.
pub(super) fn for_name(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("one of: {}", known.join(", ")),
    }
}

/// The nearest of the names, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // A key as long as this is not a slip of the pen, and the distance costs the product of both lengths.
    const NAME_MAX: usize = 64;
    if name.len() > NAME_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let (distance, nearest) = known.iter().map(|known| (distance(&name, known), *known)).min()?;
    (distance <= name.len().max(nearest.len()) / 3).then_some(nearest)
}

/// How many characters have to be put in, left out, changed, or swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before_previous: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    let mut last_left = None;
    for (row, left) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, &character) in right.iter().enumerate() {
            let at = |costs: &[usize], index: usize| costs.get(index).copied().unwrap_or(usize::MAX / 2);
            let changed = at(&previous, column) + usize::from(left != character);
            let mut cost = changed.min(at(&previous, column + 1) + 1).min(at(&current, column) + 1);
            let swapped = column.checked_sub(1).filter(|&before| {
                right.get(before).is_some_and(|&before| before == left) && last_left == Some(character)
            });
            if let Some(before) = swapped {
                cost = cost.min(at(&before_previous, before) + 1);
            }
            current.push(cost);
        }
        before_previous = std::mem::replace(&mut previous, current);
        last_left = Some(left);
    }
    previous.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_slips() {
        for (left, right, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("recieve", "receive", 1),
            ("endpont", "endpoint", 1),
            ("ab", "xyz", 3),
            ("", "abc", 3),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
            assert_eq!(distance(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        assert_eq!(nearest("exporters", &["exporter", "store"]), Some("exporter"));
        assert_eq!(nearest("Endpoint", &["endpoint"]), Some("endpoint"));
        assert_eq!(nearest("pipelines", &["receiver", "store"]), None);
        assert_eq!(nearest("x", &[]), None);
    }
}

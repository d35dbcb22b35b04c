//! How a filter relates to a name or to another filter. All texts are checked: '+' and '#' stand alone in their level.

use crate::text::common_prefix;

/// Whether the first level is a wildcard, so that no name that starts with '$' matches. [MQTT-4.7.2-1]
#[inline]
pub(crate) fn starts_with_wildcard(filter: &[u8]) -> bool {
    matches!(filter.first(), Some(b'+' | b'#'))
}

#[inline]
fn starts_with_dollar(text: &[u8]) -> bool {
    text.first() == Some(&b'$')
}

/// Whether a name matches a filter.
pub(crate) fn matches(filter: &[u8], name: &[u8]) -> bool {
    if starts_with_dollar(name) && starts_with_wildcard(filter) {
        return false;
    }
    let (mut filter, mut name) = (filter, name);
    loop {
        // Never beyond a wildcard, as no name contains one.
        let agreed = common_prefix(filter, name);
        (filter, name) = (filter.split_at(agreed).1, name.split_at(agreed).1);
        match filter.split_first() {
            None => return name.is_empty(),
            Some((b'#', _)) => return true,
            Some((b'+', after)) => {
                filter = after;
                let level = name.iter().position(|&byte| byte == b'/').unwrap_or(name.len());
                name = name.split_at(level).1;
            }
            // "a/#" matches the parent level "a" too. (4.7.1.2)
            Some(_) => return name.is_empty() && filter == b"/#",
        }
    }
}

/// Whether every name that `other` matches is matched by `filter`.
pub(crate) fn covers(filter: &[u8], other: &[u8]) -> bool {
    if starts_with_wildcard(filter) && starts_with_dollar(other) {
        return false;
    }
    let (mut ours, mut theirs) = (Some(filter), Some(without_empty_parent(other)));
    loop {
        match (next_level(&mut ours), next_level(&mut theirs)) {
            (Some(b"#"), _) | (None, None) => return true,
            (Some(_), Some(b"#")) => return false,
            (Some(b"+"), Some(_)) => {}
            (Some(level), Some(other)) if level == other => {}
            (Some(_) | None, _) => return false,
        }
    }
}

/// Whether some name is matched by both filters.
pub(crate) fn overlaps(a: &[u8], b: &[u8]) -> bool {
    if (starts_with_wildcard(a) && starts_with_dollar(b)) || (starts_with_wildcard(b) && starts_with_dollar(a)) {
        return false;
    }
    let (mut a, mut b) = (Some(without_empty_parent(a)), Some(without_empty_parent(b)));
    loop {
        match (next_level(&mut a), next_level(&mut b)) {
            (Some(b"#"), _) | (_, Some(b"#")) | (None, None) => return true,
            (Some(b"+"), Some(_)) | (Some(_), Some(b"+")) => {}
            (Some(level), Some(other)) if level == other => {}
            (Some(_) | None, _) => return false,
        }
    }
}

/// '#' matches its parent level too, but the parent of "#" and "/#" is no name, as it has no character. Says the same
/// without that parent.
fn without_empty_parent(filter: &[u8]) -> &[u8] {
    match filter {
        b"#" => b"+/#",
        b"/#" => b"/+/#",
        filter => filter,
    }
}

/// Takes the first level off a text; `None` in `rest` means that no level is left.
#[inline]
pub(crate) fn next_level<'a>(rest: &mut Option<&'a [u8]>) -> Option<&'a [u8]> {
    let text = rest.take()?;
    let Some(end) = text.iter().position(|&byte| byte == b'/') else { return Some(text) };
    let (level, after) = text.split_at(end);
    *rest = after.get(1..);
    Some(level)
}

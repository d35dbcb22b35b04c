//! A naive topic matcher: slow, recursive, and as close to the wording of section 4.7 as code can be.
//!
//! Needs nothing but `std`, so that tests and fuzz targets can include this file.

/// Whether a text is a Topic Name.
pub(crate) fn is_name(text: &[u8]) -> bool {
    is_topic(text) && !text.contains(&b'+') && !text.contains(&b'#')
}

/// Whether a text is a Topic Filter; `$share` means nothing.
pub(crate) fn is_plain_filter(text: &[u8]) -> bool {
    let Ok(chars) = std::str::from_utf8(text) else { return false };
    let levels: Vec<&str> = chars.split('/').collect();
    is_topic(text)
        && levels.iter().enumerate().all(|(at, level)| match *level {
            "+" => true,
            "#" => at + 1 == levels.len(),
            level => !level.contains(['+', '#']),
        })
}

/// Whether a text is a Topic Filter, one of a Shared Subscription included.
pub(crate) fn is_filter(text: &[u8]) -> bool {
    let Ok(chars) = std::str::from_utf8(text) else { return false };
    let parts: Vec<&str> = chars.splitn(3, '/').collect();
    if parts[0] != "$share" {
        return is_plain_filter(text);
    }
    is_topic(text)
        && parts.len() == 3
        && !parts[1].is_empty()
        && !parts[1].contains(['+', '#'])
        && is_plain_filter(parts[2].as_bytes())
}

fn is_topic(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| (1..=65_535).contains(&text.len()) && !text.contains('\0'))
}

/// Whether a valid, plain filter matches a valid name.
pub(crate) fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let name: Vec<&str> = name.split('/').collect();
    levels_match(&filter, &name)
}

fn levels_match(filter: &[&str], name: &[&str]) -> bool {
    match (filter, name) {
        (["#"], _) | ([], []) => true,
        (["+", filter @ ..], [_, name @ ..]) => levels_match(filter, name),
        ([expected, filter @ ..], [level, name @ ..]) => expected == level && levels_match(filter, name),
        _ => false,
    }
}

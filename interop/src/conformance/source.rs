//! Where the test functions of a source file begin and end.

use std::ops::RangeInclusive;

/// Each test function with its lines, counted from 1: from its first doc comment or attribute to its closing brace.
///
/// Looks at the text as rustfmt leaves it, where the brace that ends an item stands under its first letter. That holds
/// in `proptest!` too.
pub fn test_spans(text: &str) -> Vec<(&str, RangeInclusive<usize>)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut spans = Vec::new();
    let mut from = 0;
    while let Some(at) = lines.iter().skip(from).position(|line| is_test_attribute(line)).map(|at| at + from) {
        let end = span_at(&lines, at).map(|(name, first, last)| {
            spans.push((name, first + 1..=last + 1));
            last
        });
        from = end.unwrap_or(at) + 1;
    }
    spans
}

fn is_test_attribute(line: &str) -> bool {
    let line = line.trim_start();
    line == "#[test]" || line.starts_with("#[tokio::test")
}

/// The name of the function whose attribute stands at a line, its first line and its last.
fn span_at<'a>(lines: &[&'a str], attribute: usize) -> Option<(&'a str, usize, usize)> {
    let before = lines.get(..attribute)?.iter().rev().take_while(|line| is_about_an_item(line)).count();
    let mut after = lines.iter().enumerate().skip(attribute);
    let (_, head) = after.find(|(_, line)| !is_about_an_item(line))?;
    let declaration = head.trim_start();
    let declaration = declaration.strip_prefix("async ").unwrap_or(declaration).strip_prefix("fn ")?;
    let name = declaration.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    let indentation = head.len() - head.trim_start().len();
    let is_end = |line: &str| line.len() == indentation + 1 && line.ends_with('}');
    let (last, _) = after.find(|(_, line)| is_end(line))?;
    Some((name, attribute - before, last))
}

fn is_about_an_item(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") || line.starts_with("#[")
}

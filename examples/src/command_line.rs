use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What is wrong with a command line, in one line; `None` if the user asked for help or the version, or gave nothing.
pub fn mistake(error: &clap::Error) -> Option<String> {
    let is_help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if is_help {
        return None;
    }
    let text = error.to_string();
    let mut line = String::new();
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if part.starts_with("Usage:") || part.starts_with("For more information") {
            break;
        }
        let (start, part) = match (part.strip_prefix("error: "), part.strip_prefix("tip: ")) {
            (Some(part), _) => ("", part),
            (None, Some(part)) => ("; ", part),
            (None, None) => (" ", part),
        };
        line.extend([start, part]);
    }
    if !line.contains("--help") {
        line.push_str("; --help shows what there is");
    }
    Some(line)
}

/// The flag that is not known, if that is what is wrong.
pub fn unknown_flag(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) if error.kind() == ErrorKind::UnknownArgument => Some(flag),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_pointed_to_once() {
        let said = |text| mistake(&clap::Command::new("x").error(ErrorKind::ValueValidation, text));
        assert_eq!(said("%Q is no field").as_deref(), Some("%Q is no field; --help shows what there is"));
        assert_eq!(said("%Q: --help lists the fields").as_deref(), Some("%Q: --help lists the fields"));
    }
}

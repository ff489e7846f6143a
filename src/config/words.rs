//! Errors of reading TOML, in the words of those who write it: keys, sections, lists, numbers and text. The
//! parser speaks of the types of this program.

/// Returns an error of the parser in these words. One that is not known stays: those about the syntax
/// of TOML need none.
pub(super) fn plain(message: &str) -> String {
    let kinds = ["invalid type: ", "invalid value: "];
    if let Some(rest) = kinds.iter().find_map(|kind| message.strip_prefix(kind))
        && let Some((found, expected)) = rest.rsplit_once(", expected ")
    {
        if let Some(number) = found.strip_suffix(" as i128") {
            return format!("{} is out of range", shown(number));
        }
        return format!("it has to be {}, and is {}", wanted(expected), shown(found));
    }
    if let Some((name, expected)) = unknown(message, "unknown variant `") {
        return format!("{name:?} is not allowed: use {}", expected.replace('`', "\""));
    }
    if let Some((_, expected)) = unknown(message, "unknown field `") {
        return format!("unknown key: the keys here are {}", expected.replace('`', ""));
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("the key {} is missing", name.replace('`', ""));
    }
    match message {
        "invalid socket address syntax" => format!("it is not {ADDRESS}"),
        "invalid IP address syntax" => format!("it is not {IP}"),
        // The value of a key that takes one of some words is a number, for example.
        "wanted string or table" | "expected table, found integer" => {
            "it has to be one of some words, as text: weir default-config shows them".to_owned()
        }
        _ => message.to_owned(),
    }
}

const ADDRESS: &str = "an address such as \"127.0.0.1:4433\"";
const IP: &str = "an address without port, such as \"192.0.2.7\"";

// Splits "`x`, expected one of `a`, `b`".
fn unknown<'a>(message: &'a str, begin: &str) -> Option<(&'a str, &'a str)> {
    let (name, expected) = message.strip_prefix(begin)?.rsplit_once("`, expected ")?;
    Some((name, expected.strip_prefix("one of ").unwrap_or(expected)))
}

fn wanted(expected: &str) -> &str {
    match expected {
        "a string" => "text",
        "path string" => "the path of a file",
        "socket address" => ADDRESS,
        "IP address" => IP,
        "a nonzero u32" => "a whole number from 1 on",
        "usize" | "u8" | "u16" | "u32" | "u64" => "a whole number from 0 on",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "an integer or string" | "parsable string" | "integer overflow" => {
            "a size such as \"256MiB\", or a number of bytes"
        }
        section if section.starts_with("struct ") => "a section",
        // The words of a type of this crate.
        own => own,
    }
}

fn shown(found: &str) -> String {
    match found.split_once(' ') {
        Some(("integer" | "boolean", value)) => value.trim_matches('`').to_owned(),
        Some(("floating", value)) => {
            value.trim_start_matches("point ").trim_matches('`').to_owned()
        }
        Some(("string", value)) => value.to_owned(),
        _ if found == "sequence" => "a list".to_owned(),
        _ if found == "map" => "a section".to_owned(),
        _ => "something else".to_owned(),
    }
}

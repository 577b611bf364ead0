//! The `tojson` filter as transformers defines it: Python's `json.dumps(value, ensure_ascii=False)`, not escaped for HTML.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// A template can nest values deeper than this only on purpose.
const MAX_DEPTH: usize = 100;
const MAX_INDENT: usize = 16;

/// `value|tojson` and `value|tojson(indent=4)`.
pub(super) fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent = options.get::<Option<usize>>("indent")?;
    // Two more of json.dumps's options occur in templates; both have the value that we implement.
    for (name, implemented) in [("ensure_ascii", false), ("sort_keys", false)] {
        if options.get::<Option<bool>>(name)?.is_some_and(|given| given != implemented) {
            return Err(failed(format!("tojson({name}=…) is not supported")));
        }
    }
    options.assert_all_used()?;
    if indent.is_some_and(|indent| indent > MAX_INDENT) {
        return Err(failed(format!("tojson: an indent of more than {MAX_INDENT}")));
    }
    let mut json = String::new();
    write(&mut json, &value, indent, 0)?;
    Ok(json)
}

fn write(json: &mut String, value: &Value, indent: Option<usize>, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(failed(format!("tojson: values nest deeper than {MAX_DEPTH}")));
    }
    match value.kind() {
        ValueKind::None => json.push_str("null"),
        ValueKind::Bool => json.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => json.push_str(&value.to_string()),
        ValueKind::String => json.push_str(&quoted(value)),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = 0;
            json.push('[');
            for item in value.try_iter()? {
                separate(json, indent, depth + 1, items);
                write(json, &item, indent, depth + 1)?;
                items += 1;
            }
            close(json, indent, depth, items, ']');
        }
        ValueKind::Map => {
            let mut items = 0;
            json.push('{');
            for key in value.try_iter()? {
                separate(json, indent, depth + 1, items);
                json.push_str(&quoted(&key));
                json.push_str(": ");
                write(json, &value.get_item(&key)?, indent, depth + 1)?;
                items += 1;
            }
            close(json, indent, depth, items, '}');
        }
        kind => return Err(failed(format!("tojson: a value of type {kind}"))),
    }
    Ok(())
}

fn quoted(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    serde_json::Value::String(text).to_string()
}

fn separate(json: &mut String, indent: Option<usize>, depth: usize, items: usize) {
    if items > 0 {
        json.push_str(if indent.is_some() { "," } else { ", " });
    }
    new_line(json, indent, depth);
}

fn close(json: &mut String, indent: Option<usize>, depth: usize, items: usize, bracket: char) {
    if items > 0 {
        new_line(json, indent, depth);
    }
    json.push(bracket);
}

fn new_line(json: &mut String, indent: Option<usize>, depth: usize) {
    if let Some(indent) = indent {
        json.push('\n');
        json.extend(std::iter::repeat_n(' ', indent * depth));
    }
}

fn failed(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

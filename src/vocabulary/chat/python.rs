//! The methods of Python's texts, dicts and lists that chat templates call.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

type Outcome = Result<Value, Error>;

/// Calls a method that the template language itself does not have.
pub(super) fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Outcome {
    match (value.kind(), value.as_str()) {
        (ValueKind::String, Some(text)) => of_text(text, name, arguments),
        (ValueKind::Map, _) => of_dict(state, value, name, arguments),
        (ValueKind::Seq, _) => of_list(value, name, arguments),
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

fn of_text(text: &str, name: &str, arguments: &[Value]) -> Outcome {
    let stripped = |left: bool, right: bool| -> Outcome {
        let (letters,): (Option<&str>,) = from_args(arguments)?;
        let goes = |c: char| letters.map_or(c.is_whitespace(), |letters| letters.contains(c));
        let text = if left { text.trim_start_matches(goes) } else { text };
        Ok(Value::from(if right { text.trim_end_matches(goes) } else { text }))
    };
    let whole = |said: String| -> Outcome {
        let () = from_args(arguments)?;
        Ok(Value::from(said))
    };
    let every = |is: fn(char) -> bool| -> Outcome {
        let () = from_args(arguments)?;
        Ok(Value::from(!text.is_empty() && text.chars().all(is)))
    };
    match name {
        "strip" => stripped(true, true),
        "lstrip" => stripped(true, false),
        "rstrip" => stripped(false, true),
        "upper" => whole(text.to_uppercase()),
        "lower" => whole(text.to_lowercase()),
        "capitalize" => whole(capital(text)),
        "title" => whole(titled(text)),
        "isdigit" => every(char::is_numeric),
        "isalpha" => every(char::is_alphabetic),
        "isalnum" => every(char::is_alphanumeric),
        "isspace" => every(char::is_whitespace),
        "startswith" => any_of(arguments, |part| text.starts_with(part)),
        "endswith" => any_of(arguments, |part| text.ends_with(part)),
        "removeprefix" => {
            let (part,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_prefix(part).unwrap_or(text)))
        }
        "removesuffix" => {
            let (part,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_suffix(part).unwrap_or(text)))
        }
        "replace" => {
            let (old, new, most): (&str, &str, Option<i64>) = from_args(arguments)?;
            let most = most.and_then(|most| usize::try_from(most).ok());
            // each letter replaced makes at most so many bytes; more than a prompt could ever need is no chat
            if (text.len() + 1).saturating_mul(new.len()) > LONGEST {
                return Err(Error::new(ErrorKind::InvalidOperation, "a text grows beyond 64 MiB"));
            }
            Ok(Value::from(match most {
                Some(most) => text.replacen(old, new, most),
                None => text.replace(old, new),
            }))
        }
        "split" | "rsplit" => {
            let (between, most): (Option<&str>, Option<i64>) = from_args(arguments)?;
            split(text, between, most, name == "rsplit")
        }
        "splitlines" => {
            let () = from_args(arguments)?;
            Ok(text.lines().map(Value::from).collect())
        }
        "find" | "index" | "rfind" => {
            let (part,): (&str,) = from_args(arguments)?;
            let at = if name == "rfind" { text.rfind(part) } else { text.find(part) };
            let letters = |at: usize| text.get(..at).unwrap_or_default().chars().count() as i64;
            match at {
                None if name == "index" => {
                    Err(Error::new(ErrorKind::InvalidOperation, "the part of the text is not there"))
                }
                at => Ok(Value::from(at.map_or(-1, letters))),
            }
        }
        "count" => {
            let (part,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.matches(part).count()))
        }
        "join" => {
            let (parts,): (Vec<String>,) = from_args(arguments)?;
            Ok(Value::from(parts.join(text)))
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

/// Bytes that one replacement may make.
const LONGEST: usize = 64 << 20;

/// One text, or a tuple of which any will do.
fn any_of(arguments: &[Value], is: impl Fn(&str) -> bool) -> Outcome {
    let (parts,): (&Value,) = from_args(arguments)?;
    if let Some(part) = parts.as_str() {
        return Ok(Value::from(is(part)));
    }
    let mut any = false;
    for part in parts.try_iter()? {
        any |= part.as_str().is_some_and(&is);
    }
    Ok(Value::from(any))
}

fn split(text: &str, between: Option<&str>, most: Option<i64>, from_behind: bool) -> Outcome {
    // at most so many cuts; below zero, as many as there are
    let most =
        most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
    let parts: Vec<&str> = match between {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "a text is split at nothing")),
        Some(between) if from_behind => {
            let mut parts: Vec<&str> = text.rsplitn(most, between).collect();
            parts.reverse();
            parts
        }
        Some(between) => text.splitn(most, between).collect(),
        None if most == usize::MAX => text.split_whitespace().collect(),
        None => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "a text is split at most so often at spaces",
            ));
        }
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters.flat_map(char::to_lowercase)).collect()
}

/// Every run of letters with a capital first.
fn titled(text: &str) -> String {
    let (mut said, mut inside) = (String::new(), false);
    for letter in text.chars() {
        match inside {
            true => said.extend(letter.to_lowercase()),
            false => said.extend(letter.to_uppercase()),
        }
        inside = letter.is_alphabetic();
    }
    said
}

fn of_dict(state: &mut State, dict: &Value, name: &str, arguments: &[Value]) -> Outcome {
    match name {
        "items" => {
            let () = from_args(arguments)?;
            state.apply_filter("items", std::slice::from_ref(dict))
        }
        "keys" => {
            let () = from_args(arguments)?;
            Ok(dict.try_iter()?.collect())
        }
        "values" => {
            let () = from_args(arguments)?;
            dict.try_iter()?.map(|key| dict.get_item(&key)).collect::<Result<Value, Error>>()
        }
        "get" => {
            let (key, other): (&Value, Option<Value>) = from_args(arguments)?;
            let found = dict.get_item(key)?;
            Ok(if found.is_undefined() { other.unwrap_or(Value::from(())) } else { found })
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

fn of_list(list: &Value, name: &str, arguments: &[Value]) -> Outcome {
    match name {
        "count" => {
            let (what,): (&Value,) = from_args(arguments)?;
            Ok(Value::from(list.try_iter()?.filter(|item| item == what).count()))
        }
        "index" => {
            let (what,): (&Value,) = from_args(arguments)?;
            let at = list.try_iter()?.position(|item| item == *what);
            at.map(Value::from)
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "the list does not hold it"))
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

#[cfg(test)]
mod tests {
    /// What Python says to each.
    #[test]
    fn methods_do_as_in_python() {
        for (asked, said) in [
            ("'  a b '.strip()", "a b"),
            ("'xxaxx'.strip('x')", "a"),
            ("'xxaxx'.lstrip('x') ~ '|' ~ 'xxaxx'.rstrip('x')", "axx|xxa"),
            ("'aXb'.upper() ~ 'aXb'.lower()", "AXBaxb"),
            ("'hELLO wORLD'.title() ~ 'hELLO wORLD'.capitalize()", "Hello WorldHello world"),
            ("'abc'.startswith('ab') and 'abc'.endswith(('x', 'bc'))", "True"),
            ("'a</t>b</t>c'.split('</t>')[-1]", "c"),
            ("'a-b-c'.split('-', 1)[1] ~ 'a-b-c'.rsplit('-', 1)[0]", "b-ca-b"),
            ("' a  b '.split() | length", "2"),
            ("'a\nb'.splitlines() | join('+')", "a+b"),
            ("'aaa'.replace('a', 'b') ~ 'aaa'.replace('a', 'b', 1)", "bbbbaa"),
            ("'naïve'.find('v') ~ 'abc'.find('x')", "3-1"),
            ("'banana'.count('a')", "3"),
            ("', '.join(['a', 'b'])", "a, b"),
            ("'prefix'.removeprefix('pre') ~ 'a.txt'.removesuffix('.txt')", "fixa"),
            ("'12'.isdigit() and not ''.isalpha()", "True"),
            ("{'a': 1, 'b': 2}.items() | list | length", "2"),
            ("{'a': 1}.get('a') ~ {'a': 1}.get('b', 7) ~ ({'a': 1}.get('b') is none)", "17True"),
            ("{'a': 1, 'b': 2}.keys() | join ~ {'a': 1, 'b': 2}.values() | join", "ab12"),
            ("[1, 2, 1].count(1) ~ [1, 2].index(2)", "21"),
        ] {
            let mut env = minijinja::Environment::new();
            env.set_unknown_method_callback(super::method);
            let rendered = env.render_str(&format!("{{{{ {asked} }}}}"), ());
            assert_eq!(rendered.unwrap_or_else(|e| panic!("{asked}: {e}")), said, "{asked}");
        }
    }
}

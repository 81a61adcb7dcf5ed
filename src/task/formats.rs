//! Records of others' data sets, told by the columns they have, in our own fields.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

type Fields = Map<String, Value>;

/// Our own fields that may stand beside another format's columns.
const KEPT: [&str; 8] = ["id", "pos", "group", "subject", "label", "split", "case", "meta"];

/// A format that is recognised.
pub struct Format {
    /// Whose it is.
    pub name: &'static str,
    /// Its columns, and how they are read.
    pub about: &'static str,
    /// Whether a record has its columns.
    is: fn(&Fields) -> bool,
    /// The columns that are read.
    reads: fn(&Fields) -> Vec<String>,
    /// The record in our fields.
    convert: fn(&Fields, &Vocabulary) -> Result<Fields>,
}

/// Every format beside our own, the more particular first.
pub const FORMATS: &[Format] = &[
    Format {
        name: "feature-circuits",
        about: "clean_prefix, patch_prefix, clean_answer, patch_answer",
        is: |fields| has(fields, &["clean_prefix", "patch_prefix", "clean_answer", "patch_answer"]),
        reads: |_| owned(&["clean_prefix", "patch_prefix", "clean_answer", "patch_answer"]),
        convert: |fields, _| {
            Ok(renamed(fields, ["clean_prefix", "patch_prefix", "clean_answer", "patch_answer"]))
        },
    },
    Format {
        name: "EAP-IG",
        about: "clean, corrupted and token ids: correct_idx with incorrect_idx, clean_answer_idx with corrupted_answer_idx, \
                country_idx with corrupted_country_idx, answers_idx with corrupted_answers_idx; in greater-than data correct_idx \
                (or year) alone is the year after which answers lie",
        is: |fields| {
            has(fields, &["clean", "corrupted"])
                && (pair(fields).is_some() || years(fields).is_some() || has(fields, &["plural"]))
        },
        reads: |fields| {
            let labels = pair(fields).map_or_else(|| vec!["correct_idx", "year"], |pair| pair.to_vec());
            owned(&["clean", "corrupted"]).into_iter().chain(owned(&labels)).collect()
        },
        convert: eap,
    },
    Format {
        name: "MIB",
        about: "prompt, choices with answerKey (or label), and a counterfactual: s2_io_flip_counterfactual, \
                symbol_counterfactual, random_counterfactual, counterfactuals",
        is: |fields| fields.contains_key("prompt") && fields.keys().any(|key| is_counterfactual(key)),
        reads: |fields| {
            let all = fields.keys().filter(|key| is_counterfactual(key)).cloned();
            owned(&["prompt", "choices", "answerKey", "correct_index", "label", "metadata"])
                .into_iter()
                .chain(all)
                .collect()
        },
        convert: mib,
    },
    Format {
        name: "IOIDataset",
        about: "text (which ends in IO), IO, S; TEMPLATE_IDX groups prompts",
        is: |fields| has(fields, &["text", "IO", "S"]),
        reads: |_| owned(&["text", "IO", "S", "TEMPLATE_IDX"]),
        convert: |fields, _| ioi(fields),
    },
    Format {
        name: "TransformerLens",
        about: "lists side by side: clean_prompts (or prompts), corrupted_prompts, answers as pairs of a right and a wrong one",
        is: |fields| clean_of(fields).is_some() && !fields.contains_key("wrong_answers"),
        reads: |fields| {
            let found = [clean_of(fields), corrupt_of(fields)].into_iter().flatten();
            found.map(str::to_owned).chain(owned(&["answers", "answer", "wrong"])).collect()
        },
        convert: |fields, _| lens(fields),
    },
    Format {
        name: "auto-circuit",
        about: "an object whose prompts are clean, corrupt, answers, wrong_answers",
        is: |fields| has(fields, &["clean", "corrupt", "answers", "wrong_answers"]),
        reads: |_| owned(&["clean", "corrupt", "answers", "wrong_answers"]),
        convert: |fields, _| Ok(renamed(fields, ["clean", "corrupt", "answers", "wrong_answers"])),
    },
];

impl Format {
    /// The format whose columns a record has.
    pub(super) fn of(fields: &Fields) -> Option<&'static Format> {
        FORMATS.iter().find(|format| (format.is)(fields))
    }

    /// The record in our own fields. One of another format is an error.
    pub(super) fn ours(&self, fields: &Fields, vocabulary: &Vocabulary) -> Result<Fields> {
        if !(self.is)(fields) {
            let keys: Vec<&str> = fields.keys().map(String::as_str).collect();
            return Err(Error::input(
                format!(
                    "it has the columns {}, unlike the first prompt, which is of {}",
                    keys.join(", "),
                    self.name
                ),
                format!("{} has {}; keep to one format in a file", self.name, self.about),
            ));
        }
        (self.convert)(fields, vocabulary)
    }

    /// The columns of a record that nothing is taken from.
    pub(super) fn left(&self, fields: &Fields) -> Vec<String> {
        let reads = (self.reads)(fields);
        let used = |key: &str| KEPT.contains(&key) || reads.iter().any(|read| read == key);
        fields.keys().filter(|key| !used(key)).cloned().collect()
    }

    /// The columns of a record that are read, as a note names them.
    pub(super) fn read(&self, fields: &Fields) -> Vec<String> {
        (self.reads)(fields).into_iter().filter(|key| fields.contains_key(key)).collect()
    }
}

fn has(fields: &Fields, names: &[&str]) -> bool {
    names.iter().all(|name| fields.get(*name).is_some_and(|value| !value.is_null()))
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// These columns under our names, and what is ours already.
fn renamed(fields: &Fields, names: [&str; 4]) -> Fields {
    let theirs = ["clean", "corrupt", "answers", "wrong"].into_iter().zip(names);
    let kept = KEPT.into_iter().zip(KEPT);
    let all = theirs.chain(kept);
    all.filter_map(|(ours, theirs)| Some((ours.to_owned(), fields.get(theirs)?.clone()))).collect()
}

// EAP-IG

/// The columns of right and wrong token ids.
fn pair(fields: &Fields) -> Option<[&'static str; 2]> {
    const PAIRS: [[&str; 2]; 4] = [
        ["correct_idx", "incorrect_idx"],
        ["clean_answer_idx", "corrupted_answer_idx"],
        ["country_idx", "corrupted_country_idx"],
        ["answers_idx", "corrupted_answers_idx"],
    ];
    PAIRS.into_iter().find(|pair| has(fields, pair))
}

/// The two digits after which a greater-than prompt's answers lie: they stand in the prompt, behind the century that it ends
/// with again.
fn years(fields: &Fields) -> Option<usize> {
    let clean = fields.get("clean")?.as_str()?;
    let year = match (fields.get("correct_idx"), fields.get("year")) {
        (Some(label), _) => whole(label)? as usize,
        (None, Some(year)) => {
            let text = year.as_str().map_or_else(|| year.to_string(), str::to_owned);
            text.get(text.len().checked_sub(2)?..)?.parse().ok()?
        }
        (None, None) => return None,
    };
    let century = clean.trim_end().get(clean.trim_end().len().checked_sub(2)?..)?;
    let digits = century.bytes().all(|byte| byte.is_ascii_digit());
    let run: String = clean.split_whitespace().collect();
    (digits && year < 100 && run.contains(&format!("{century}{year:02}"))).then_some(year)
}

fn eap(fields: &Fields, vocabulary: &Vocabulary) -> Result<Fields> {
    if let Some([right, wrong]) = pair(fields) {
        let mut ours = renamed(fields, ["clean", "corrupted", right, wrong]);
        ours.insert("answers".to_owned(), ids(right, fields)?);
        ours.insert("wrong".to_owned(), ids(wrong, fields)?);
        return Ok(ours);
    }
    let Some(year) = years(fields) else {
        return Err(Error::input(
            "`plural` says which of two lists of verbs is right, and the lists are in another file",
            "add the token ids as `correct_idx` and `incorrect_idx`",
        ));
    };
    let token = |year: usize| {
        let text = format!("{year:02}");
        vocabulary.single(&text).map(|(id, _)| id).map_err(|_| {
            Error::input(
                format!("years are no single tokens of two digits in this vocabulary: {text:?} is none"),
                "greater-than data need a tokenizer that cuts years into two and two digits",
            )
        })
    };
    let tokens = |years: std::ops::Range<usize>| years.map(token).collect::<Result<Vec<u32>>>();
    let mut ours = renamed(fields, ["clean", "corrupted", "", ""]);
    ours.insert("answers".to_owned(), json!(tokens(year + 1..100)?));
    ours.insert("wrong".to_owned(), json!(tokens(0..year + 1)?));
    Ok(ours)
}

/// A column of token ids: a whole number or a list of them, also as 17.0, which is how pandas writes them beside gaps.
fn ids(theirs: &str, fields: &Fields) -> Result<Value> {
    let value = fields.get(theirs).unwrap_or(&Value::Null);
    let ids: Option<Vec<u64>> = match value {
        Value::Array(list) => list.iter().map(whole).collect(),
        one => whole(one).map(|id| vec![id]),
    };
    let wrong = || {
        Error::input(
            format!("`{theirs}` holds {value}, which is no token id and no list of them"),
            "columns that end in `_idx` hold ids of the tokenizer that the file was made for",
        )
    };
    Ok(json!(ids.ok_or_else(wrong)?))
}

fn whole(value: &Value) -> Option<u64> {
    let float = || value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..4e9).contains(x)).map(|x| x as u64);
    value.as_u64().or_else(float)
}

// MIB

fn is_counterfactual(key: &str) -> bool {
    key == "counterfactuals" || key.ends_with("_counterfactual")
}

fn mib(fields: &Fields, _: &Vocabulary) -> Result<Fields> {
    let mut ours = Fields::new();
    ours.insert("clean".to_owned(), fields.get("prompt").cloned().unwrap_or_default());
    let other = counterfactual(fields);
    match other {
        Some(Value::Object(other)) => {
            ours.insert("corrupt".to_owned(), other.get("prompt").cloned().unwrap_or_default());
        }
        Some(Value::String(prompt)) => {
            ours.insert("corrupt".to_owned(), json!(prompt));
        }
        _ => {}
    }
    let of = |name: &str| fields.get("metadata")?.get(name)?.as_str().map(|name| format!(" {}", name.trim()));
    let (answer, wrong) = match (of("indirect_object"), of("subject")) {
        (Some(answer), Some(wrong)) => (Some(answer), Some(wrong)),
        _ => (chosen(fields), other.and_then(Value::as_object).and_then(chosen)),
    };
    ours.extend(answer.map(|answer| ("answers".to_owned(), json!(answer))));
    ours.extend(wrong.map(|wrong| ("wrong".to_owned(), json!(wrong))));
    Ok(ours)
}

/// The counterfactual that the circuit track takes for each task, else the first there is.
fn counterfactual(fields: &Fields) -> Option<&Value> {
    const USUAL: [&str; 3] = ["s2_io_flip_counterfactual", "symbol_counterfactual", "random_counterfactual"];
    let usual = USUAL.iter().find_map(|name| fields.get(*name));
    let any = fields.iter().find(|(key, _)| key.ends_with("_counterfactual")).map(|(_, value)| value);
    let listed = fields.get("counterfactuals").and_then(|all| match all {
        Value::Array(all) => all.first(),
        all => USUAL.iter().find_map(|name| all.get(*name)).or_else(|| all.as_object()?.values().next()),
    });
    usual.or(any).or(listed).filter(|value| !value.is_null())
}

/// What a multiple-choice record says is right: the choice with the number (or the letter) in `answerKey`, else its `label`.
fn chosen(fields: &Fields) -> Option<String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let key = fields.get("answerKey").or_else(|| fields.get("correct_index"));
    let Some((choices, key)) = fields.get("choices").zip(key) else {
        return fields.get("label").and_then(text);
    };
    let labels = choices.get("label").and_then(Value::as_array);
    let position = |letter: &str| labels?.iter().position(|label| label.as_str() == Some(letter));
    let at = key.as_u64().map(|key| key as usize).or_else(|| position(key.as_str()?))?;
    match labels {
        // the letter is what is said
        Some(labels) => labels.get(at).and_then(text),
        // a name follows a word
        None => choices.get(at).and_then(text).map(|name| format!(" {}", name.trim())),
    }
}

// TransformerLens

fn clean_of(fields: &Fields) -> Option<&'static str> {
    ["clean_prompts", "clean_prompt", "prompts"].into_iter().find(|name| has(fields, &[name]))
}

fn corrupt_of(fields: &Fields) -> Option<&'static str> {
    let names = [
        "corrupted_prompts",
        "corrupted_prompt",
        "corrupt_prompts",
        "corrupt_prompt",
        "corrupted",
        "corrupt",
    ];
    names.into_iter().find(|name| has(fields, &[name]))
}

fn lens(fields: &Fields) -> Result<Fields> {
    let answers = if fields.contains_key("answers") { "answers" } else { "answer" };
    let mut ours = renamed(
        fields,
        [clean_of(fields).unwrap_or_default(), corrupt_of(fields).unwrap_or_default(), answers, "wrong"],
    );
    if let (Some(Value::Array(two)), None) = (fields.get(answers), fields.get("wrong")) {
        let [right, wrong] = two.as_slice() else {
            return Err(Error::input(
                format!("`{answers}` holds {} answers, where a right and a wrong one are a pair", two.len()),
                "write `[\" Mary\", \" John\"]`, or right ones under `answers` and wrong ones under `wrong`",
            ));
        };
        ours.insert("answers".to_owned(), right.clone());
        ours.insert("wrong".to_owned(), wrong.clone());
    }
    Ok(ours)
}

fn ioi(fields: &Fields) -> Result<Fields> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    let (sentence, io, s) = (text("text"), text("IO"), text("S"));
    let Some(clean) = sentence.strip_suffix(&format!(" {io}")) else {
        return Err(Error::input(
            format!("`text` does not end in `IO`, {io:?}"),
            "IOIDataset's sentences end in the name that is the answer",
        ));
    };
    let mut ours = Fields::new();
    ours.insert("clean".to_owned(), json!(clean));
    ours.insert("answers".to_owned(), json!(format!(" {io}")));
    ours.insert("wrong".to_owned(), json!(format!(" {s}")));
    ours.extend(fields.get("TEMPLATE_IDX").map(|template| ("group".to_owned(), template.clone())));
    Ok(ours)
}

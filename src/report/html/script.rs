//! The page's script: the modules under `assets/web`, joined into one.
//!
//! They are modules so that they can be read and tested one by one; a page is one file, and its policy names one script by
//! its hash. Joining drops the lines that import and the word that exports. What a module declares at its top is therefore
//! declared for all of them, and no two may use the same name; a test holds them to it.

/// The modules, each after those it imports from.
pub(super) const MODULES: [(&str, &str); 15] = [
    ("page.js", include_str!("../../../assets/web/page.js")),
    ("data.js", include_str!("../../../assets/web/data.js")),
    ("color.js", include_str!("../../../assets/web/color.js")),
    ("store.js", include_str!("../../../assets/web/store.js")),
    ("draw.js", include_str!("../../../assets/web/draw.js")),
    ("save.js", include_str!("../../../assets/web/save.js")),
    ("heads.js", include_str!("../../../assets/web/heads.js")),
    ("card.js", include_str!("../../../assets/web/card.js")),
    ("attention.js", include_str!("../../../assets/web/attention.js")),
    ("lens.js", include_str!("../../../assets/web/lens.js")),
    ("places.js", include_str!("../../../assets/web/places.js")),
    ("prompts.js", include_str!("../../../assets/web/prompts.js")),
    ("palette.js", include_str!("../../../assets/web/palette.js")),
    ("explore.js", include_str!("../../../assets/web/explore.js")),
    ("main.js", include_str!("../../../assets/web/main.js")),
];

/// Signs that need no spaces around them, and that no text of the page holds.
const TIGHT: [&str; 6] = ["=>", "===", "!==", "&&", "||", "??"];

/// The script, as it stands in the page. Comments stay behind, and so do what indents and the spaces and line breaks that
/// separate nothing.
pub(super) fn joined() -> String {
    let mut script = String::from("\"use strict\";\n(() => {\n");
    let mut in_comment = false;
    for line in MODULES.iter().flat_map(|(_, text)| text.lines()).map(str::trim) {
        if in_comment || line.starts_with("/**") {
            in_comment = !line.ends_with("*/");
        } else if !(line.is_empty() || line.starts_with("//") || line.starts_with("import ")) {
            if line.starts_with(['}', ')', ']', '.', '?', ':', '&', '|']) && script.ends_with('\n') {
                script.pop();
            }
            script += line.strip_prefix("export ").unwrap_or(line);
            if !line.ends_with(['{', '(', '[', ',', ';', '}', '=', '>', '?', ':', '&', '|']) {
                script.push('\n');
            }
        }
    }
    script += "})();\n";
    TIGHT.iter().fold(script, |script, sign| script.replace(&format!(" {sign} "), sign))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// What stands at the top of a module: the name that it declares.
    fn declared(line: &str) -> Option<&str> {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let kinds = ["const ", "let ", "function ", "async function ", "class "];
        let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
        rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$')).next()
    }

    #[test]
    fn modules_can_be_joined() {
        let mut owner: BTreeMap<&str, &str> = BTreeMap::new();
        for (module, text) in MODULES {
            for line in text.lines() {
                if let Some(name) = declared(line) {
                    assert!(!name.is_empty(), "{module}: `{line}` declares several names");
                    let before = owner.insert(name, module);
                    assert_eq!(before, None, "{module} declares `{name}` once more");
                }
                if let Some(import) = line.strip_prefix("import ") {
                    let (names, from) = import.split_once(" from \"./").unwrap();
                    let from = from.trim_end_matches("\";");
                    for name in names.trim_matches(['{', '}', ' ']).split(", ") {
                        assert_eq!(owner.get(name), Some(&from), "{module} imports `{name}` from {from}");
                    }
                }
                let code = line.trim();
                assert!(
                    code.starts_with("//") || !code.contains(" // "),
                    "{module}: a comment in a line: {line}"
                );
                assert!(
                    code.matches('`').count().is_multiple_of(2),
                    "{module}: a text over several lines: {line}"
                );
                let quoted = |sign: &&str| line.split('"').skip(1).step_by(2).any(|text| text.contains(sign));
                assert!(!TIGHT.iter().any(quoted), "{module}: a text that would lose its spaces: {line}");
                let at_top = line.starts_with("export ") || !line.contains("export ") || line.contains("//");
                assert!(at_top || line.contains('*'), "{module}: {line}");
            }
        }
        let script = joined();
        assert!(script.len() < 60_000, "the script has {} bytes", script.len());
        assert!(!script.contains("</script"), "it would end itself");
    }

    #[test]
    fn nothing_makes_text_into_markup_or_code() {
        for (module, text) in MODULES {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "Function(",
                "srcdoc",
                "DOMParser",
                "createContextualFragment",
                "fetch(",
                "XMLHttpRequest",
                "import(",
                "WebSocket",
                "sendBeacon",
            ] {
                assert!(!text.contains(word), "{module} says {word}");
            }
        }
    }
}

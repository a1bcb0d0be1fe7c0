//! Which arguments a macro takes, and what is written for it.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What is written for a macro.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Writing {
    /// Nothing.
    Nothing,
    /// The same text always; arguments are not shown.
    Constant(&'static str),
    /// The arguments, one after the other.
    Arguments,
    /// `pieces[0] arg pieces[1] arg ...`; without arguments the template itself, as `%s` in their places.
    Template(&'static [&'static str]),
    /// One argument (counted from 0) between two texts; without arguments it cannot be written.
    One(usize, &'static str, &'static str),
    /// The argument in letters of a mathematical alphabet.
    Alphabet(Alphabet),
    /// Every character of the argument followed by a combining mark.
    Accent(char),
}

/// A mathematical alphabet: where its capitals and small letters start, and the letters Unicode has elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Alphabet {
    pub capitals: u32,
    pub smalls: u32,
    pub elsewhere: &'static [(char, char)],
}

const BOLD: Alphabet = Alphabet { capitals: 0x1d400, smalls: 0x1d41a, elsewhere: &[] };
const ITALIC: Alphabet = Alphabet { capitals: 0x1d434, smalls: 0x1d44e, elsewhere: &[('h', 'ℎ')] };
const SANS: Alphabet = Alphabet { capitals: 0x1d5a0, smalls: 0x1d5ba, elsewhere: &[] };
const MONOSPACE: Alphabet = Alphabet { capitals: 0x1d670, smalls: 0x1d68a, elsewhere: &[] };
const SCRIPT: Alphabet = Alphabet {
    capitals: 0x1d49c,
    smalls: 0x1d4b6,
    elsewhere: &[
        ('B', 'ℬ'),
        ('E', 'ℰ'),
        ('F', 'ℱ'),
        ('H', 'ℋ'),
        ('I', 'ℐ'),
        ('L', 'ℒ'),
        ('M', 'ℳ'),
        ('R', 'ℛ'),
        ('e', 'ℯ'),
        ('g', 'ℊ'),
        ('o', 'ℴ'),
    ],
};
const FRAKTUR: Alphabet = Alphabet {
    capitals: 0x1d504,
    smalls: 0x1d51e,
    elsewhere: &[('C', 'ℭ'), ('H', 'ℌ'), ('I', 'ℑ'), ('R', 'ℜ'), ('Z', 'ℨ')],
};
const DOUBLE_STRUCK: Alphabet = Alphabet {
    capitals: 0x1d538,
    smalls: 0x1d552,
    elsewhere: &[('C', 'ℂ'), ('H', 'ℍ'), ('N', 'ℕ'), ('P', 'ℙ'), ('Q', 'ℚ'), ('R', 'ℝ'), ('Z', 'ℤ')],
};

/// A macro's arguments, one character each (`{` required, `[` optional, `*` a star), and what is written for it.
pub(super) fn known(name: &str) -> (&'static str, Writing) {
    MACROS.get(name).copied().unwrap_or(("", Writing::Nothing))
}

/// The arguments of `\begin{name}`, in the same notation.
pub(super) fn environment_arguments(name: &str) -> &'static str {
    match name {
        "figure" | "figure*" | "table" | "table*" | "enumerate" | "itemize" | "description" | "theorem"
        | "proposition" | "lemma" | "corollary" | "definition" | "conjecture" | "remark" | "proof" | "thm" | "prop"
        | "lem" | "cor" | "conj" | "rem" | "defn" => "[",
        "array" => "[{",
        "tabular" | "alignat" | "alignat*" => "{",
        "tabular*" => "{{",
        "tabularx" => "{[{",
        _ => "",
    }
}

/// Names with their code points, one macro a line: pylatexenc 2.11's table of symbols without arguments, except its
/// Cyrillic letters.
const SYMBOLS: &str = include_str!("symbols.txt");

static MACROS: LazyLock<HashMap<&'static str, (&'static str, Writing)>> = LazyLock::new(|| {
    let mut table = HashMap::new();
    for line in SYMBOLS.lines() {
        let mut fields = line.split(' ');
        let name = fields.next().unwrap_or_default();
        let text: String = fields
            .map(|code| u32::from_str_radix(code, 16).ok().and_then(char::from_u32).expect("a code point"))
            .collect();
        // Leaked once for the life of the program: about 2 KiB.
        table.insert(name, ("", Writing::Constant(String::leak(text))));
    }
    table.insert(" ", ("", Writing::Constant(" ")));
    table.insert("\\", ("*[", Writing::Constant("\n")));
    for (name, arguments, writing) in WITH_ARGUMENTS {
        table.insert(name, (arguments, *writing));
    }
    for (arguments, names) in DISCARDED {
        table.extend(names.split(' ').map(|name| (name, (*arguments, Writing::Nothing))));
    }
    let framed = "overline underline widehat widetilde wideparen overleftarrow overrightarrow overleftrightarrow \
                  underleftarrow underrightarrow underleftrightarrow overbrace underbrace overgroup undergroup \
                  overbracket underbracket overlinesegment underlinesegment overleftharpoon overrightharpoon \
                  ensuremath";
    table.extend(framed.split(' ').map(|name| (name, ("{", Writing::Template(&["", ""])))));
    let plain = "emph textrm textit textbf textsc textsl text mathrm";
    table.extend(plain.split(' ').map(|name| (name, ("{", Writing::Arguments))));
    for (name, mark) in ACCENTS {
        table.insert(name, ("{", Writing::Accent(*mark)));
    }
    table
});

const WITH_ARGUMENTS: &[(&str, &str, Writing)] = &[
    ("frac", "{{", Writing::Template(&["", "/", ""])),
    ("nicefrac", "{{", Writing::Template(&["", "/", ""])),
    ("textfrac", "", Writing::Constant("%s/%s")),
    ("sqrt", "[{", Writing::One(1, "√(", ")")),
    ("ket", "{", Writing::Template(&["|", "⟩"])),
    ("bra", "{", Writing::Template(&["⟨", "|"])),
    ("braket", "{{", Writing::Template(&["⟨", "|", "⟩"])),
    ("ketbra", "{{", Writing::Template(&["|", "⟩⟨", "|"])),
    ("url", "{", Writing::Template(&["<", ">"])),
    ("footnote", "[{", Writing::One(1, "[", "]")),
    ("textcolor", "[{{", Writing::One(2, "", "")),
    ("colorbox", "[{{", Writing::One(2, "", "")),
    ("fcolorbox", "[{[{{", Writing::One(4, "", "")),
    ("vspace", "*{", Writing::Constant("\n")),
    ("ref", "{", Writing::Constant("<ref>")),
    ("autoref", "{", Writing::Constant("<ref>")),
    ("cref", "{", Writing::Constant("<ref>")),
    ("Cref", "{", Writing::Constant("<Ref>")),
    ("eqref", "{", Writing::Constant("(<ref>)")),
    ("cite", "*[[{", Writing::Constant("<cit.>")),
    ("citet", "*[[{", Writing::Constant("<cit.>")),
    ("citep", "*[[{", Writing::Constant("<cit.>")),
    ("mathbf", "{", Writing::Alphabet(BOLD)),
    ("mathit", "{", Writing::Alphabet(ITALIC)),
    ("mathsf", "{", Writing::Alphabet(SANS)),
    ("mathbb", "{", Writing::Alphabet(DOUBLE_STRUCK)),
    ("mathtt", "{", Writing::Alphabet(MONOSPACE)),
    ("mathcal", "{", Writing::Alphabet(SCRIPT)),
    ("mathscr", "{", Writing::Alphabet(SCRIPT)),
    ("mathfrak", "{", Writing::Alphabet(FRAKTUR)),
];

/// Macros that vanish together with their arguments.
const DISCARDED: &[(&str, &str)] = &[
    ("{", "mbox textmd textsf texttt textup label keywords bibliography hypersetup input include title author date"),
    ("[{", "hphantom vphantom xleftarrow xrightarrow color pagecolor usepackage documentclass includegraphics"),
    ("*{", "hspace"),
    ("[{{", "setlength addlength setcounter addcounter"),
];

const ACCENTS: &[(&str, char)] = &[
    ("'", '\u{301}'),
    ("`", '\u{300}'),
    ("\"", '\u{308}'),
    ("c", '\u{327}'),
    ("^", '\u{302}'),
    ("~", '\u{303}'),
    ("H", '\u{30b}'),
    ("k", '\u{328}'),
    ("=", '\u{304}'),
    ("b", '\u{331}'),
    (".", '\u{307}'),
    ("d", '\u{323}'),
    ("r", '\u{30a}'),
    ("u", '\u{306}'),
    ("v", '\u{30c}'),
    ("vec", '\u{20d7}'),
    ("dot", '\u{307}'),
    ("hat", '\u{302}'),
    ("check", '\u{30c}'),
    ("breve", '\u{306}'),
    ("acute", '\u{301}'),
    ("grave", '\u{300}'),
    ("tilde", '\u{303}'),
    ("bar", '\u{305}'),
    ("ddot", '\u{308}'),
    ("not", '\u{338}'),
];

#[cfg(test)]
mod tests {
    use super::{Writing, known};

    #[test]
    fn knows_symbols_and_arguments() {
        assert_eq!(known("pi"), ("", Writing::Constant("π")));
        assert_eq!(known("qquad"), ("", Writing::Constant("    ")));
        assert_eq!(known("!"), ("", Writing::Constant("")));
        assert_eq!(known("frac").0, "{{");
        assert_eq!(known("nosuchmacro"), ("", Writing::Nothing));
    }
}

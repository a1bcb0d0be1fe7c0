//! The instruction around a problem, and the places of its pictures.

use std::path::Path;
use std::sync::Arc;

use minijinja::{Environment, context};

use crate::template::{make_python_like, template_error};
use crate::{Content, Item, Message, TextError, python, sandbox};

/// Where a picture belongs in a problem's text.
pub const IMAGE_SLOT: &str = "<image>";

/// PAPO's instruction (`examples/format_prompt/math_perception.jinja` at mikewangwzhl/PAPO commit fb63bf4).
const MATH_PERCEPTION: &str = include_str!("../assets/math_perception.jinja");

/// A Jinja template over `content`, the problem. Jinja syntax inside the problem stays as it is.
pub struct FormatPrompt {
    name: String,
    /// None leaves the problem as it is.
    environment: Option<Arc<Environment<'static>>>,
}

impl FormatPrompt {
    /// `"math_perception"` (PAPO's), `"none"` (the problem alone, as it is), or the path of a Jinja file, relative to `folder`.
    ///
    /// # Errors
    /// When the file cannot be read or is not Jinja.
    pub fn load(name: &str, folder: &Path) -> Result<Self, TextError> {
        match name {
            "math_perception" => Self::from_source(name, MATH_PERCEPTION),
            "none" => Ok(Self { name: name.to_owned(), environment: None }),
            file => {
                let source = std::fs::read_to_string(folder.join(file))
                    .map_err(|source| TextError::FormatPrompt { name: file.to_owned(), source })?;
                Self::from_source(file, &source)
            }
        }
    }

    /// A format prompt given as text; `name` stands in error messages.
    ///
    /// # Errors
    /// When it is not Jinja.
    pub fn from_source(name: &str, source: &str) -> Result<Self, TextError> {
        // The reference builds `Template(text.strip())`: Jinja's plain settings, not those of chat templates.
        let mut environment = Environment::new();
        make_python_like(&mut environment);
        let source = python::strip(source).replace("\r\n", "\n").replace('\r', "\n");
        environment.add_template_owned(name.to_owned(), source).map_err(|error| template_error(&error, name))?;
        Ok(Self { name: name.to_owned(), environment: Some(Arc::new(environment)) })
    }

    /// The problem with its instruction.
    ///
    /// # Errors
    /// When the template fails on this problem.
    pub fn render(&self, problem: &str) -> Result<String, TextError> {
        let Some(environment) = &self.environment else { return Ok(problem.to_owned()) };
        let context = context! { content => problem };
        sandbox::render(environment, &self.name, context).map_err(|error| template_error(&error, &self.name))
    }

    /// The user's message. With `slots`, the text is cut at each `<image>` and empty pieces are dropped (nothing else is
    /// stripped); without, it is one string and `<image>` is a word like others.
    ///
    /// # Errors
    /// As [`FormatPrompt::render`].
    pub fn message(&self, problem: &str, slots: bool) -> Result<Message, TextError> {
        let text = self.render(problem)?;
        if !slots {
            return Ok(Message::user(Content::Text(text)));
        }
        let mut items = Vec::new();
        for (position, piece) in text.split(IMAGE_SLOT).enumerate() {
            if position > 0 {
                items.push(Item::image());
            }
            if !piece.is_empty() {
                items.push(Item::text(piece));
            }
        }
        Ok(Message::user(Content::Items(items)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_white_space() {
        let format = FormatPrompt::from_source("f", "\n{{ content | trim }} {% if true %}\nGo.{% endif %}\n").unwrap();
        let message = format.message("\u{1f} <image>\n<image>{{ x }} 1 < 2 & 'a' ", true).unwrap();
        let expected = [Item::image(), Item::text("\n"), Item::image(), Item::text("{{ x }} 1 < 2 & 'a' \nGo.")];
        assert_eq!(message, Message::user(Content::Items(expected.into())));
    }

    #[test]
    fn none_changes_nothing() {
        let format = FormatPrompt::load("none", Path::new("")).unwrap();
        assert_eq!(format.message(" <image> a ", false).unwrap(), Message::user(Content::Text(" <image> a ".into())));
        assert_eq!(format.message("<image>", true).unwrap().num_images(), 1);
    }

    #[test]
    fn files_are_relative_to_the_folder_and_unknown_names_explained() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.jinja"), "Q: {{ content }}\n").unwrap();
        let format = FormatPrompt::load("mine.jinja", folder.path()).unwrap();
        assert_eq!(format.render("why? ").unwrap(), "Q: why? ");
        let error = FormatPrompt::load("math_perceptoin", folder.path()).err().unwrap().to_string();
        assert!(error.contains("math_perceptoin") && error.contains("\"math_perception\""), "{error}");
    }
}

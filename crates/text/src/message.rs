//! Chat messages in the shape chat templates read.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One turn of a conversation, in the Hugging Face shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub role: String,
    #[serde(default)]
    pub content: Content,
    /// Further keys a template may read (`tool_calls`, `name`, ...), in their order.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a message says: one string, or items in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Items(Vec<Item>),
    /// `null`, as assistant turns that only call a tool have it.
    #[default]
    Nothing,
}

/// One item of a message: `{"type": "image"}`, `{"type": "text", "text": ...}` or `{"type": "video"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Item {
    Image {
        /// Further keys (`image`, `url`, ...), kept for templates that look for them.
        #[serde(flatten)]
        extra: Map<String, Value>,
    },
    Text {
        text: String,
    },
    Video {
        #[serde(flatten)]
        extra: Map<String, Value>,
    },
}

impl Item {
    pub fn image() -> Self {
        Self::Image { extra: Map::new() }
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }
}

impl Message {
    pub fn new(role: impl Into<String>, content: Content) -> Self {
        Self { role: role.into(), content, extra: Map::new() }
    }

    pub fn user(content: Content) -> Self {
        Self::new("user", content)
    }

    /// The number of image items.
    pub fn num_images(&self) -> usize {
        match &self.content {
            Content::Items(items) => items.iter().filter(|item| matches!(item, Item::Image { .. })).count(),
            Content::Text(_) | Content::Nothing => 0,
        }
    }

    /// The texts of the content, in order.
    pub(crate) fn texts(&self) -> Vec<&str> {
        match &self.content {
            Content::Text(text) => vec![text],
            Content::Items(items) => items
                .iter()
                .filter_map(|item| match item {
                    Item::Text { text } => Some(text.as_str()),
                    Item::Image { .. } | Item::Video { .. } => None,
                })
                .collect(),
            Content::Nothing => vec![],
        }
    }

    pub(crate) fn texts_mut(&mut self) -> Vec<&mut String> {
        match &mut self.content {
            Content::Text(text) => vec![text],
            Content::Items(items) => items
                .iter_mut()
                .filter_map(|item| match item {
                    Item::Text { text } => Some(text),
                    Item::Image { .. } | Item::Video { .. } => None,
                })
                .collect(),
            Content::Nothing => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hugging_face_shape_survives_a_round_trip() {
        for json in [
            r#"{"role":"user","content":"plain"}"#,
            r#"{"role":"user","content":[{"type":"image"},{"type":"text","text":"what?"},{"type":"video","fps":2}]}"#,
            r#"{"role":"assistant","content":null,"tool_calls":[{"b":1,"a":2}]}"#,
        ] {
            let message: Message = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&message).unwrap(), json);
        }
        assert!(serde_json::from_str::<Message>(r#"{"role":"user","content":[{"type":"sound"}]}"#).is_err());
    }
}

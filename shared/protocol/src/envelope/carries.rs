//! What a request carries beside text, by the `type`, the media type or the lifetime that its parts name. Knows no
//! part's content.

use std::borrow::Cow;

/// Kinds of parts and tools that a request names. Each may be there without effect, so this bounds and proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carries {
    /// How many pictures.
    pub pictures: u32,
    /// A file, whose tokens its bytes say nothing of, or an item that is stored at the vendor.
    pub files: bool,
    /// Sound, in or out.
    pub sound: bool,
    /// The vendor's search of the web is offered.
    pub searches: bool,
    /// A search of the web belongs to the answer, and is not reported apart.
    pub always_searches: bool,
    /// The vendor's search of stored files is offered.
    pub searches_files: bool,
    /// Code may be run at the vendor.
    pub runs_code: bool,
    /// Pictures may be made by a tool.
    pub makes_pictures: bool,
    /// A cache is to be kept for an hour.
    pub keeps_cache: bool,
    /// Pictures may be written beside text.
    pub writes_pictures: bool,
}

impl Carries {
    /// Whether any of the vendor's own tools is offered.
    #[must_use]
    pub const fn offers_tools(&self) -> bool {
        self.searches || self.searches_files || self.runs_code || self.makes_pictures
    }

    /// Takes note of a `type`, as written in the body.
    pub(super) fn see(&mut self, kind: &str) {
        if kind.len() > LONGEST {
            return;
        }
        let kind = if kind.contains('\\') {
            Cow::Owned(serde_json::from_str(&format!("\"{kind}\"")).unwrap_or_default())
        } else {
            Cow::<str>::Borrowed(kind)
        };
        match &*kind {
            "input_image" | "image_url" | "image" | "computer_screenshot" | "image_generation_call" => {
                self.pictures = self.pictures.saturating_add(1);
            }
            // Anthropic's kinds beside OpenAI's: a document, or what lies in a container at the vendor.
            "input_file" | "file" | "item_reference" | "document" | "container_upload" => self.files = true,
            "input_audio" => self.sound = true,
            "1h" => self.keeps_cache = true,
            "file_search" => self.searches_files = true,
            "code_interpreter" => self.runs_code = true,
            "image_generation" => self.makes_pictures = true,
            // What a tool found stands in later turns under names of its own.
            kind if kind.ends_with("_call") || kind.ends_with("_result") => {}
            kind if kind.starts_with("web_search") => self.searches = true,
            // A page may fill the context.
            kind if kind.starts_with("web_fetch_") => self.files = true,
            kind if kind.starts_with("image/") => self.pictures = self.pictures.saturating_add(1),
            kind if kind.starts_with("audio/") => self.sound = true,
            kind if kind.starts_with("video/") || kind.starts_with("application/") => self.files = true,
            _ => {}
        }
    }
}

/// Longer ones are none of these, even with each letter escaped.
const LONGEST: usize = 6 * 32;

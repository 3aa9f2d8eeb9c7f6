//! Finds a few named values in a JSON document that comes in pieces. Keeps nothing but them, and cannot fail.
//!
//! A lexer without a stack: a string is a key when a colon follows it, and only the two outermost levels matter. What
//! is not JSON gives nothing found. Where a key is doubled the last one counts, as for most readers.

use crate::hidden::{self, Hidden};
use crate::json::string_len;
use crate::usage::ToolCalls;

/// What the document is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// An event of the Responses wire: `type` outside, the answer under `response`.
    Event,
    /// An event of the Messages wire: `type` outside, the answer under `message`, how it ends under `delta`.
    Message,
    /// The answer itself, or a chunk of one.
    Bare,
}

/// The values looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Type,
    Code,
    Error,
    Status,
    Id,
    Usage,
    Tier,
    Choices,
    /// Why the answer ended.
    Stop,
    /// What became of the prompt, where there is no answer.
    Feedback,
    /// The model that answered.
    Version,
}

impl Field {
    const COUNT: usize = 11;

    fn outside(root: Root, key: &[u8]) -> Option<Self> {
        match (root, key) {
            (_, b"type") => Some(Self::Type),
            (_, b"error") => Some(Self::Error),
            (Root::Event, b"code") => Some(Self::Code),
            (Root::Event, b"status") => Some(Self::Status),
            (Root::Message, b"usage") => Some(Self::Usage),
            (Root::Event | Root::Message, _) => None,
            (Root::Bare, b"choices") => Some(Self::Choices),
            (Root::Bare, b"promptFeedback") => Some(Self::Feedback),
            (Root::Bare, b"modelVersion") => Some(Self::Version),
            (Root::Bare, key) => Self::of_answer(key),
        }
    }

    fn of_answer(key: &[u8]) -> Option<Self> {
        match key {
            b"id" | b"responseId" => Some(Self::Id),
            b"usage" | b"usageMetadata" => Some(Self::Usage),
            b"stop_reason" | b"stopReason" => Some(Self::Stop),
            b"status" => Some(Self::Status),
            b"error" => Some(Self::Error),
            b"service_tier" => Some(Self::Tier),
            _ => None,
        }
    }

    /// How many bytes of the value are worth keeping; a longer value counts as not understood.
    const fn room(self) -> usize {
        match self {
            Self::Usage => 8 << 10,
            Self::Error => 4 << 10,
            Self::Feedback => 2 << 10,
            Self::Id => 512,
            Self::Type | Self::Code | Self::Status | Self::Tier | Self::Stop | Self::Version => 128,
            Self::Choices => 16,
        }
    }
}

/// The state between two pieces.
pub(crate) struct Scan {
    root: Root,
    depth: u32,
    string: Option<InString>,
    /// The last string, while it may turn out to be a key. Longer ones are of no interest.
    word: Vec<u8>,
    word_is_long: bool,
    /// What the key before the last colon says of a string that follows at once.
    value: Value,
    /// The value of the outermost `response` is next, or being read.
    response: Response,
    /// Which level the output items are on while they are being read; 0 elsewhere.
    items: u32,
    /// The `type` of the item being read, and whether its `action` is other than a search.
    item: (Vec<u8>, bool),
    tools: ToolCalls,
    capture: Option<Capture>,
    found: [Option<Vec<u8>>; Field::COUNT],
    text: usize,
    finished: bool,
    /// The first reason why a candidate ended that is not the usual one, else the usual one.
    reason: Vec<u8>,
    /// Within the list of searches: how deep its strings stand, and how many there are that are not empty.
    searches: Option<u32>,
    searched: u32,
    /// The last hidden texts, where they are looked for.
    hidden: Option<Vec<Hidden>>,
    /// Of the object being read: whether it is a thought that is hidden as a whole, and its data.
    thought: (bool, Option<Hidden>),
    closed: bool,
}

struct InString {
    escaped: bool,
    len: usize,
    value: Value,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// No colon before it.
    Unnamed,
    /// Text that a model wrote.
    Text,
    /// A reason why a choice ended.
    Finish,
    /// What an output item is.
    Item,
    /// What the action of an output item is.
    Action,
    /// What any other object is.
    Kind,
    /// What a vendor hides.
    Hidden,
    /// What a thought that is hidden as a whole has of it.
    Data,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Response {
    Outside,
    Next,
    Inside,
}

struct Capture {
    field: Field,
    depth: u32,
    /// Where in the piece being read the part begins that is not kept yet.
    from: usize,
    bytes: Vec<u8>,
    is_long: bool,
}

const LONGEST_KEY: usize = 48;

/// The bytes that mean something outside strings.
const MEANS: [bool; 256] = {
    let (bytes, mut table, mut at) = (b"\":,{}[]", [false; 256], 0);
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
};

impl Scan {
    pub(crate) fn new(root: Root) -> Self {
        Self {
            root,
            depth: 0,
            string: None,
            word: Vec::new(),
            word_is_long: false,
            value: Value::Unnamed,
            response: Response::Outside,
            items: 0,
            item: (Vec::new(), false),
            tools: ToolCalls::default(),
            capture: None,
            found: [const { None }; Field::COUNT],
            text: 0,
            finished: false,
            reason: Vec::new(),
            searches: None,
            searched: 0,
            hidden: None,
            thought: (false, None),
            closed: false,
        }
    }

    /// Looks for what a vendor hides, too.
    pub(crate) fn find_hidden(&mut self) {
        self.hidden.get_or_insert_default();
    }

    /// What was found of it.
    pub(crate) fn hidden(&self) -> &[Hidden] {
        self.hidden.as_deref().unwrap_or_default()
    }

    /// Reads one document until `field` is known.
    pub(crate) fn first(root: Root, field: Field, json: &[u8]) -> Option<Vec<u8>> {
        let mut scan = Self::new(root);
        scan.read(json, Some(field));
        scan.found[field as usize].take()
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.read(piece, None);
    }

    /// The raw JSON of a value, without blanks around it.
    pub(crate) fn found(&self, field: Field) -> Option<&[u8]> {
        self.found[field as usize].as_deref()
    }

    /// The same, when it is a string.
    pub(crate) fn found_text(&self, field: Field) -> Option<String> {
        serde_json::from_slice(self.found(field)?).ok()
    }

    /// Bytes of JSON text that stood as values of keys which carry what a model wrote.
    pub(crate) fn text(&self) -> usize {
        self.text
    }

    /// Calls of the vendor's own tools among the output items.
    pub(crate) fn tools(&self) -> ToolCalls {
        self.tools
    }

    /// A `finish_reason` that is a string was seen.
    pub(crate) fn finished(&self) -> bool {
        self.finished
    }

    /// Why candidates ended, as written: a reason other than `STOP` before that one.
    pub(crate) fn reason(&self) -> &[u8] {
        &self.reason
    }

    /// How many searches of the web are named.
    pub(crate) fn searched(&self) -> u32 {
        self.searched
    }

    /// The outermost object was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    fn read(&mut self, piece: &[u8], until: Option<Field>) {
        let mut at = 0;
        while at < piece.len() {
            at = if self.string.is_some() {
                self.read_string(piece, at)
            } else {
                self.read_outside(piece, at)
            };
            if until.is_some_and(|field| self.found[field as usize].is_some()) {
                return;
            }
        }
        if let Some(capture) = &mut self.capture {
            capture.keep(piece, piece.len());
        }
    }

    /// After an opening quote: past the string and the colon behind it where they stand there as a whole, as nearly
    /// always. What is cut or escaped is read step by step.
    fn open_string(&mut self, piece: &[u8], from: usize) -> usize {
        let value = std::mem::replace(&mut self.value, Value::Unnamed);
        let end = from + string_len(&piece[from..]);
        match (piece.get(end), piece.get(end + 1)) {
            (Some(b'"'), Some(b':')) => {
                self.named(&piece[from..end], end + 2);
                return end + 2;
            }
            (Some(b'"'), Some(b',' | b'}' | b']')) => {
                self.count(value, end - from, &piece[from..end]);
                return end + 1;
            }
            _ => {}
        }
        self.word.clear();
        self.word_is_long = false;
        self.string = Some(InString {
            escaped: false,
            len: 0,
            value,
        });
        from
    }

    /// Within a string, up to its end or the end of the piece.
    fn read_string(&mut self, piece: &[u8], from: usize) -> usize {
        let Some(mut string) = self.string.take() else {
            return piece.len();
        };
        let end = string.find_end(piece, from);
        let part = &piece[from..end.unwrap_or(piece.len())];
        self.keep_word(part, string.value);
        string.len += part.len();
        match end {
            None => {
                self.string = Some(string);
                piece.len()
            }
            Some(end) => {
                let word = std::mem::take(&mut self.word);
                self.count(string.value, string.len, &word);
                self.word = word;
                end + 1
            }
        }
    }

    /// A string ended. `text` is all of it, or the beginning of a long one.
    fn count(&mut self, value: Value, len: usize, text: &[u8]) {
        match value {
            Value::Text => self.text = self.text.saturating_add(len),
            Value::Finish if len > 0 => {
                self.finished = true;
                if self.reason.is_empty() || self.reason == b"STOP" {
                    self.reason = name(text, len).to_vec();
                }
            }
            Value::Unnamed if self.searches == Some(self.depth) && len > 0 => {
                self.searched = self.searched.saturating_add(1);
            }
            Value::Item => self.item.0 = name(text, len).to_vec(),
            Value::Action => self.item.1 = name(text, len) != b"search",
            Value::Kind => self.thought.0 = name(text, len) == hidden::REDACTED,
            Value::Data => self.thought.1 = Hidden::of_vendor(text),
            Value::Hidden => self.keep_hidden(Hidden::of_vendor(text)),
            Value::Finish | Value::Unnamed | Value::Other => {}
        }
    }

    fn keep_hidden(&mut self, text: Option<Hidden>) {
        if let (Some(found), Some(text)) = (&mut self.hidden, text) {
            if found.len() == hidden::MOST {
                found.remove(0);
            }
            found.push(text);
        }
    }

    fn keep_word(&mut self, part: &[u8], value: Value) {
        if matches!(value, Value::Hidden | Value::Data) {
            let room = hidden::ROOM.saturating_sub(self.word.len());
            self.word.extend_from_slice(part.get(..room).unwrap_or(part));
        } else if self.word.len() + part.len() > LONGEST_KEY {
            self.word_is_long = true;
        } else {
            self.word.extend_from_slice(part);
        }
    }

    /// Outside strings, up to and with one byte that means something.
    fn read_outside(&mut self, piece: &[u8], from: usize) -> usize {
        let Some(skip) = piece[from..].iter().position(|byte| MEANS[usize::from(*byte)]) else {
            return piece.len();
        };
        let at = from + skip;
        match piece[at] {
            b'"' => return self.open_string(piece, at + 1),
            b':' => {
                self.colon(at + 1);
                return at + 1;
            }
            b',' => self.comma(piece, at),
            open @ (b'{' | b'[') => self.open(open),
            close => self.close(close, piece, at),
        }
        self.value = Value::Unnamed;
        at + 1
    }

    /// A colon that does not stand right behind its key.
    fn colon(&mut self, from: usize) {
        let mut word = std::mem::take(&mut self.word);
        if self.word_is_long {
            self.named(b"", from);
        } else if word.contains(&b'\\') {
            self.named(unescape(&word).as_bytes(), from);
        } else {
            self.named(&word, from);
        }
        word.clear();
        self.word = word;
    }

    /// A key was read; its value begins at `from` of the piece.
    fn named(&mut self, key: &[u8], from: usize) {
        self.value = match key {
            b"finish_reason" | b"finishReason" => Value::Finish,
            b"delta" | b"text" | b"content" | b"arguments" | b"refusal" | b"input" | b"code" | b"reasoning_content"
            | b"reasoning" | b"thinking" | b"partial_json" => Value::Text,
            b"type" if self.items > 0 && self.depth == self.items => Value::Item,
            b"type" if self.items > 0 && self.depth == self.items + 1 => Value::Action,
            b"type" if self.hidden.is_some() => Value::Kind,
            b"data" if self.hidden.is_some() => Value::Data,
            key if self.hidden.is_some() && hidden::is_key(key) => Value::Hidden,
            _ => Value::Other,
        };
        let field = match (self.depth, self.response) {
            (1, _) => Field::outside(self.root, key),
            (2, Response::Inside) => Field::of_answer(key),
            _ => None,
        };
        if self.depth == 1 {
            match (self.root, key) {
                (Root::Event, b"response") | (Root::Message, b"message" | b"delta") => self.response = Response::Next,
                (Root::Event, b"item") => self.items = 2,
                (Root::Bare, b"output") => self.items = 3,
                _ => {}
            }
        }
        if key == b"webSearchQueries" {
            self.searches = Some(self.depth.saturating_add(1));
        }
        if let (Some(field), None) = (field, &self.capture) {
            self.capture = Some(Capture {
                field,
                depth: self.depth,
                from,
                bytes: Vec::new(),
                is_long: false,
            });
        }
    }

    fn comma(&mut self, piece: &[u8], at: usize) {
        self.finish_capture(piece, at);
        if self.searches == Some(self.depth.saturating_add(1)) {
            self.searches = None;
        }
        if self.depth == 1 {
            self.response = Response::Outside;
            self.items = 0;
        }
    }

    fn open(&mut self, byte: u8) {
        if self.depth == 1 && self.response == Response::Next && byte == b'{' {
            self.response = Response::Inside;
        }
        self.depth = self.depth.saturating_add(1);
        // The strings of an object are no list of searches: its keys are not told from them where they are cut.
        if byte == b'{' && self.searches == Some(self.depth) {
            self.searches = None;
        }
        self.thought = (false, None);
    }

    fn close(&mut self, byte: u8, piece: &[u8], at: usize) {
        self.finish_capture(piece, at);
        self.searches = self.searches.filter(|depth| self.depth > *depth);
        if self.items > 0 && self.depth == self.items && byte == b'}' {
            let (kind, acts_otherwise) = std::mem::take(&mut self.item);
            self.tools.count(&kind, acts_otherwise);
        }
        if let (true, data) = std::mem::take(&mut self.thought) {
            self.keep_hidden(data);
        }
        self.depth = self.depth.saturating_sub(1);
        if self.depth <= 1 {
            self.response = Response::Outside;
        }
        self.closed |= self.depth == 0 && byte == b'}';
    }

    /// A comma or a closing bracket on the level of the key ends its value.
    fn finish_capture(&mut self, piece: &[u8], at: usize) {
        if let Some(mut capture) = self.capture.take_if(|capture| capture.depth == self.depth) {
            capture.keep(piece, at);
            self.found[capture.field as usize] = (!capture.is_long).then(|| trimmed(capture.bytes));
        }
    }
}

impl InString {
    /// Where the closing quote stands, when it stands in this piece.
    fn find_end(&mut self, piece: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        while at < piece.len() {
            at += usize::from(std::mem::take(&mut self.escaped));
            at += string_len(&piece[at..]);
            if *piece.get(at)? == b'"' {
                return Some(at);
            }
            self.escaped = true;
            at += 1;
        }
        None
    }
}

impl Capture {
    /// Keeps what of the value stands in this piece, up to `end`.
    fn keep(&mut self, piece: &[u8], end: usize) {
        let part = &piece[std::mem::take(&mut self.from)..end];
        if self.bytes.len() + part.len() > self.field.room() {
            self.is_long = true;
        } else if !self.is_long {
            self.bytes.extend_from_slice(part);
        }
    }
}

/// A value that names something, of `len` bytes: one longer than any name is none, whether or not all of it is there.
fn name(text: &[u8], len: usize) -> &[u8] {
    if len > LONGEST_KEY { b"" } else { text }
}

fn trimmed(bytes: Vec<u8>) -> Vec<u8> {
    let inside = bytes.trim_ascii();
    if inside.len() == bytes.len() {
        return bytes;
    }
    inside.to_vec()
}

fn unescape(word: &[u8]) -> String {
    let quoted = [b"\"", word, b"\""].concat();
    serde_json::from_slice(&quoted).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"type":"response.completed","x":{"usage":1,"type":"no","response":{"usage":2}},
        "response":{"output":[{"id":"inner","usage":3,"text":"Say \"usage\": {1}, ok"}],"id" : "resp_1",
        "us\u0061ge":{"a":{"b":[1,2,{"c":"}"}]}},"error":null,"status":"completed","service_tier":"flex"},"usage":4}"#;

    fn check(scan: &Scan) {
        assert_eq!(scan.found(Field::Type), Some(&b"\"response.completed\""[..]));
        assert_eq!(scan.found_text(Field::Id).as_deref(), Some("resp_1"));
        assert_eq!(scan.found(Field::Usage), Some(&br#"{"a":{"b":[1,2,{"c":"}"}]}}"#[..]));
        assert_eq!(scan.found(Field::Error), Some(&b"null"[..]));
        assert_eq!(scan.found_text(Field::Tier).as_deref(), Some("flex"));
        assert_eq!(scan.text(), r#"Say \"usage\": {1}, ok"#.len());
        assert!(scan.is_closed());
    }

    #[test]
    fn only_the_two_outermost_levels_count_however_it_is_cut() {
        let bytes = EVENT.as_bytes();
        for cut in 0..=bytes.len() {
            let mut scan = Scan::new(Root::Event);
            scan.push(&bytes[..cut]);
            scan.push(&bytes[cut..]);
            check(&scan);
        }
        let mut scan = Scan::new(Root::Event);
        bytes.chunks(1).for_each(|byte| scan.push(byte));
        check(&scan);
    }

    #[test]
    fn a_value_that_never_ends_is_not_kept() {
        let mut scan = Scan::new(Root::Bare);
        scan.push(br#"{"usage":["#);
        for _ in 0..100_000 {
            scan.push(b"[1],");
        }
        assert!(scan.capture.as_ref().unwrap().bytes.capacity() <= 2 * Field::Usage.room());
        scan.push(br#"1],"id":"a"}"#);
        assert_eq!(scan.found(Field::Usage), None);
        assert_eq!(scan.found_text(Field::Id).as_deref(), Some("a"));
    }

    #[test]
    fn nonsense_finds_nothing() {
        for text in [
            "",
            "}}}}{{{",
            "[[[[",
            "\"",
            "\\\\\"",
            ":::,,,",
            "nul",
            "{\"usage\":",
            "\u{feff}{}",
            "{\"usage\" 1}",
        ] {
            let mut scan = Scan::new(Root::Bare);
            scan.push(text.as_bytes());
            assert_eq!(scan.found(Field::Usage), None, "{text}");
        }
    }

    #[test]
    fn the_first_answer_is_enough_when_only_it_is_asked_for() {
        let id = Scan::first(Root::Event, Field::Id, br#"{"response":{"id":"a","#);
        assert_eq!(id.as_deref(), Some(&b"\"a\""[..]));
    }

    #[test]
    fn a_name_longer_than_any_is_none_however_it_is_cut() {
        let long = format!("{}_call", "a".repeat(LONGEST_KEY));
        let item = r#"{"type":"web_search_call","action":{"type":"search"}}"#;
        let json = format!(r#"{{"output":[{{"type":"{long}"}},{item}],"finish_reason":"{long}"}}"#);
        for cut in 0..=json.len() {
            let mut scan = Scan::new(Root::Bare);
            scan.push(&json.as_bytes()[..cut]);
            scan.push(&json.as_bytes()[cut..]);
            assert_eq!((scan.tools().other, scan.tools().web_search), (0, 1), "cut at {cut}");
            assert!(scan.finished() && scan.reason().is_empty(), "cut at {cut}");
        }
    }

    #[test]
    fn searches_are_the_strings_of_a_list_however_it_is_cut() {
        let json =
            r#"{"a":{"webSearchQueries":["one","","two",{"three":"four"}]},"b":{"webSearchQueries":{"five":["six"]}}}"#;
        for cut in 0..=json.len() {
            let mut scan = Scan::new(Root::Bare);
            scan.push(&json.as_bytes()[..cut]);
            scan.push(&json.as_bytes()[cut..]);
            assert_eq!(scan.searched(), 2, "cut at {cut}");
        }
    }

    #[test]
    fn depth_has_no_limit() {
        let mut scan = Scan::new(Root::Bare);
        scan.push(b"{\"a\":");
        scan.push(&vec![b'['; 1 << 20]);
        scan.push(&vec![b']'; 1 << 20]);
        scan.push(br#","id":"x"}"#);
        assert_eq!(scan.found_text(Field::Id).as_deref(), Some("x"));
        assert!(scan.is_closed());
    }
}

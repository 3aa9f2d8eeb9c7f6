//! What each client's wire calls the things that a vendor's wire may lack. A writer names a loss by a word of
//! [`crate::turn`]; the client is told by a word of its own.

use crate::wire::Wire;

macro_rules! said {
    ($($(#[doc = $doc:literal])* $name:ident = $word:literal: $responses:literal, $chat:literal, $messages:literal, $gemini:literal;)*) => {
        $($(#[doc = $doc])* pub(crate) const $name: &str = $word;)*
        /// The word, and the field of Responses, chat, Messages and Gemini.
        const SPELLINGS: &[(&str, [&str; 4])] = &[$(($name, [$responses, $chat, $messages, $gemini])),*];
    };
}

said! {
    STOP = "stop": "stop", "stop", "stop_sequences", "generationConfig.stopSequences";
    TEMPERATURE = "temperature": "temperature", "temperature", "temperature", "generationConfig.temperature";
    TOP_P = "top_p": "top_p", "top_p", "top_p", "generationConfig.topP";
    TOP_K = "top_k": "top_k", "top_k", "top_k", "generationConfig.topK";
    SEED = "seed": "seed", "seed", "seed", "generationConfig.seed";
    FREQUENCY_PENALTY = "frequency_penalty":
        "frequency_penalty", "frequency_penalty", "frequency_penalty", "generationConfig.frequencyPenalty";
    PRESENCE_PENALTY = "presence_penalty":
        "presence_penalty", "presence_penalty", "presence_penalty", "generationConfig.presencePenalty";
    /// An effort, a budget, or that thoughts are shown.
    REASONING = "reasoning": "reasoning", "reasoning_effort", "thinking", "generationConfig.thinkingConfig";
    VERBOSITY = "verbosity": "text.verbosity", "verbosity", "verbosity", "verbosity";
    SERVICE_TIER = "service_tier": "service_tier", "service_tier", "service_tier", "serviceTier";
    CACHE_KEY = "cache_key": "prompt_cache_key", "prompt_cache_key", "prompt_cache_key", "prompt_cache_key";
    USER = "user": "safety_identifier", "user", "metadata.user_id", "labels";
    METADATA = "metadata": "metadata", "metadata", "metadata", "labels";
    PARALLEL_CALLS = "parallel_calls":
        "parallel_tool_calls", "parallel_tool_calls", "tool_choice.disable_parallel_tool_use", "toolConfig";
    CHOICE = "choice": "tool_choice", "tool_choice", "tool_choice", "toolConfig.functionCallingConfig";
    STRICT = "strict": "tools[].strict", "tools[].function.strict", "tools[].strict", "tools[].functionDeclarations[]";
    /// An answer in JSON, or a schema of it.
    FORM = "form": "text.format", "response_format", "output_config.format", "generationConfig.responseSchema";
    /// Keywords of a schema, of an answer or of a tool's arguments, that the vendor refuses.
    SCHEMA = "schema": "tools[].parameters", "tools[].function.parameters", "tools[].input_schema",
        "tools[].functionDeclarations[].parameters";
    CACHE_MARK = "cache_mark": "cache_control", "cache_control", "cache_control", "cachedContent";
    /// Rules in the middle of a conversation, told as words of the user.
    MID_RULES = "mid_rules": "input[].role", "messages[].role", "messages[].role", "contents[].role";
    IMAGE = "image": "input[].content[].input_image", "messages[].content[].image_url", "messages[].content[].image",
        "contents[].parts[].inlineData";
    /// A picture, a document, sound or a film that is only an address.
    MEDIA_URL = "media_url": "input[].content[].image_url", "messages[].content[].image_url.url",
        "messages[].content[].source.url", "contents[].parts[].fileData";
    FILE = "file": "input[].content[].input_file", "messages[].content[].file", "messages[].content[].document",
        "contents[].parts[].inlineData";
    AUDIO = "audio": "input[].content[].input_audio", "messages[].content[].input_audio", "messages[].content[].audio",
        "contents[].parts[].inlineData";
    VIDEO = "video": "input[].content[].input_video", "messages[].content[].video_url", "messages[].content[].video",
        "contents[].parts[].inlineData";
    DETAIL = "detail": "input[].content[].detail", "messages[].content[].image_url.detail", "detail", "mediaResolution";
    FILE_NAME = "file_name": "input[].content[].filename", "messages[].content[].file.filename",
        "messages[].content[].title", "contents[].parts[].fileData.displayName";
    IS_ERROR = "is_error": "input[].status", "messages[].is_error", "messages[].content[].is_error",
        "contents[].parts[].functionResponse.response.error";
    /// Where an earlier answer's text came from.
    CITATIONS = "citations": "input[].content[].annotations", "messages[].annotations", "messages[].content[].citations",
        "contents[].parts[]";
}

/// What a client of `wire` calls it; the word itself where it is none of these.
pub(super) fn spelled(word: &str, wire: Wire) -> Option<&'static str> {
    let (_, [responses, chat, messages, gemini]) = SPELLINGS.iter().find(|(known, _)| *known == word)?;
    Some(match wire {
        Wire::Responses => responses,
        Wire::Chat => chat,
        Wire::Messages => messages,
        Wire::Gemini => gemini,
    })
}

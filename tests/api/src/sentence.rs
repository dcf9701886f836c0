//! The sentences of a godoc.

/// The sentences that say MUST or must, each in one line.
pub fn musts(doc: &[String]) -> Vec<String> {
    let mut sentences = Vec::new();
    for block in blocks(doc) {
        sentences.extend(split(&block).into_iter().filter(|it| says_must(it)).map(str::to_owned));
    }
    sentences
}

/// Paragraphs and items of lists, each in one line, without the items' marks.
fn blocks(doc: &[String]) -> Vec<String> {
    let mut blocks: Vec<String> = vec![String::new()];
    for line in doc {
        let line = line.trim();
        let item = ["* ", "- "].iter().find_map(|mark| line.strip_prefix(mark));
        if line.is_empty() || item.is_some() {
            blocks.push(String::new());
        }
        let Some(block) = blocks.last_mut() else { continue };
        for word in item.unwrap_or(line).split_whitespace() {
            if !block.is_empty() {
                block.push(' ');
            }
            block.push_str(word);
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

/// A sentence ends before a capital, a quotation or a parenthesis: "e.g." is followed by neither.
fn split(block: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut rest = block;
    let mut from = 0;
    while let Some(found) = rest[from..].find(['.', '!', '?']) {
        let end = from + found + 1;
        let next = rest[end..].strip_prefix(' ').and_then(|next| next.chars().next());
        from = end;
        if next.is_some_and(|next| next.is_ascii_uppercase() || "`\"'(*<".contains(next)) {
            sentences.push(&rest[..end]);
            rest = &rest[end + 1..];
            from = 0;
        }
    }
    sentences.push(rest);
    sentences
}

fn says_must(sentence: &str) -> bool {
    sentence.split(|it: char| !it.is_alphanumeric()).any(|word| word.eq_ignore_ascii_case("must"))
}

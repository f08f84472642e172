// What somebody else wrote (names in an image, labels, a registry's words) as a terminal may show it: it must
// not steer the terminal, nor look like other text. The escapes are JSON's, so that JSON stays what it was.

const STEERING = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

/** Control and bidirectional characters, but for tab and newline, as \uXXXX. */
export function showControls(text: string): string {
  return text.replace(STEERING, showNumber);
}

/** Those two as well: what claims to be one line is one. */
export function showOneLine(text: string): string {
  return showControls(text).replace(/[\t\n]/g, showNumber);
}

function showNumber(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

// The string parser of @iarna/toml alone: its main module also loads node:stream, which costs start-up time.

declare module "@iarna/toml/parse-string.js" {
  /** TOML text to plain values; throws with line and column. */
  const parse: (text: string) => Record<string, unknown>;
  export = parse;
}

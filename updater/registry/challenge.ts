// WWW-Authenticate: what a registry wants to see before it answers (RFC 9110 11.6.1, RFC 7235).
//
// A field holds a list of challenges, each a scheme with parameters in a list of its own, values as
// tokens or quoted strings; several fields may come. Unknown schemes are kept, what cannot be
// parsed is skipped up to the next challenge: a registry may offer things we do not know.

export interface Challenge {
  /** Lower case, e.g. "bearer". */
  readonly scheme: string;
  /** Names in lower case; the first of a name counts. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** Enough for any real registry; the rest is ignored. */
const MAX_CHALLENGES = 16;
const MAX_FIELD_CHARS = 16 << 10;

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const SCHEME = new RegExp(`\\s*(${TOKEN})(?=\\s|,|$)`, "y");
const PARAMETER = new RegExp(`\\s*(${TOKEN})\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|(${TOKEN}))`, "ys");
/** Credentials of the one-word form, e.g. Negotiate's; "=" only at its end. */
const TOKEN68 = /\s*[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))/y;

/** Of all fields of a response, in order. */
export function parseChallenges(fields: readonly string[]): readonly Challenge[] {
  return fields
    .flatMap((field) => parseField(field.slice(0, MAX_FIELD_CHARS)))
    .slice(0, MAX_CHALLENGES);
}

function parseField(field: string): readonly Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(field);
    if (found !== null) at = pattern.lastIndex;
    return found;
  };
  while (at < field.length) {
    const parameter = take(PARAMETER);
    const current = challenges.at(-1);
    if (parameter !== null) {
      const name = parameter[1]!.toLowerCase();
      const value = parameter[2]?.replace(/\\(.)/gs, "$1") ?? parameter[3]!;
      if (current !== undefined && !current.parameters.has(name)) {
        current.parameters.set(name, value);
      }
    } else {
      const scheme = take(SCHEME);
      if (scheme !== null) {
        challenges.push({ scheme: scheme[1]!.toLowerCase(), parameters: new Map() });
        if (!startsParameter(field, at)) take(TOKEN68);
      } else {
        at = skipPast(field, at);
        continue;
      }
    }
    while (field[at] === " " || field[at] === "\t" || field[at] === ",") at++;
  }
  return challenges;
}

function startsParameter(field: string, at: number): boolean {
  PARAMETER.lastIndex = at;
  return PARAMETER.test(field);
}

/** Behind the next comma that is not inside quotes. */
function skipPast(field: string, from: number): number {
  let isQuoted = false;
  for (let at = from; at < field.length; at++) {
    if (field[at] === "\\" && isQuoted) at++;
    else if (field[at] === '"') isQuoted = !isQuoted;
    else if (field[at] === "," && !isQuoted) return at + 1;
  }
  return field.length;
}

// What the verbs of `bootc container` share about their options.

import { InvalidArgumentError } from "@commander-js/extra-typings";

/** For options that may be given more than once, and have a default. */
export function collectText(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}

/** As `collectText`, for options that may be missing. */
export function collectMore(
  value: string,
  before: readonly string[] | undefined,
): readonly string[] {
  return [...(before ?? []), value];
}

/** Of an image statement. */
export function parseStatementVersion(text: string): number {
  const version = /^[1-9]\d{0,15}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(version)) return version;
  throw new InvalidArgumentError("It is a number from 1 to 2^53-1.");
}

/** When a statement expires. A day stands for its beginning. */
export function parseStatementTime(text: string): string {
  const time = new Date(/^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00:00Z` : text);
  const isUtc = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\dZ)?$/.test(text);
  if (isUtc && !Number.isNaN(time.getTime()) && time.toISOString().startsWith(text.slice(0, 10))) {
    return time.toISOString().replace(".000Z", "Z");
  }
  throw new InvalidArgumentError(
    'It is a day or time in UTC, "2027-01-31" or "2027-01-31T12:00:00Z".',
  );
}

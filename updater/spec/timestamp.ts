// Build times of images as the Host document shows them: RFC 3339 in UTC, with the fraction in
// groups of three digits and without one when it is zero.

const RFC_3339 = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)$/;

/** Null when `text` is no RFC 3339 time. */
export function normalizeTimestamp(text: string): string | null {
  const [, date, time, fraction = "", zone] = RFC_3339.exec(text) ?? [];
  if (date === undefined) return null;
  const seconds = new Date(`${date}T${time}${zone?.toUpperCase()}`);
  if (Number.isNaN(seconds.getTime())) return null;
  const digits = fraction.slice(0, 9).replace(/0+$/, "");
  const padded = digits.padEnd(Math.ceil(digits.length / 3) * 3, "0");
  return `${formatSeconds(seconds)}${padded === "" ? "" : `.${padded}`}Z`;
}

/** A normalized time without its fraction, for people. */
export function shortTimestamp(timestamp: string): string {
  return timestamp.replace(/\.\d+/, "");
}

function formatSeconds(date: Date): string {
  return date.toISOString().slice(0, -".000Z".length);
}

// Canonical JSON as bootc writes it: keys sorted, nothing between tokens, no newline at the end, so
// that equal documents are equal bytes. Numbers and strings are written as RFC 8785 says.

/** Properties that are undefined are left out, as JSON.stringify does. */
export function formatCanonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(formatCanonicalJson).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value ?? null);
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, member]) => `${JSON.stringify(key)}:${formatCanonicalJson(member)}`);
  return `{${members.join(",")}}`;
}

// Fuzz target: what registries say in headers and small documents: challenges, Content-Range, Retry-After, redirects,
// the kind of a manifest. What is accepted is bounded and safe to act upon.

import { parseChallenges } from "../../../updater/registry/challenge.ts";
import { parseContentRange } from "../../../updater/registry/content-range.ts";
import { settleMediaType } from "../../../updater/registry/manifest-type.ts";
import { parseRetryAfter } from "../../../updater/registry/retry.ts";
import { attempt, checkEqual, type FuzzTarget, PropertyError } from "../target.ts";

const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const NOW_MS = Date.parse("2026-11-22T12:00:00Z");

const SEEDS = [
  'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull"',
  'Basic realm="a \\"b\\", c", Bearer realm=d, Negotiate YWJj==',
  "bytes 10-19/100",
  "bytes 0-0/*",
  "120",
  "Sun, 22 Nov 2026 12:00:30 GMT",
  JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, layers: [] }),
  '{"manifests":[]}',
];

export const target: FuzzTarget = {
  focus: /^updater\/registry\/(challenge|content-range|manifest-type|retry)\.ts/,
  maxBytes: 4096,
  errors: ["FormatError", "UnsupportedError"],
  words: [
    ...'Basic|Bearer|realm=|"|\\"|,|=|==| |\t|bytes |-|/|*|GMT|{|}|[|]|null|:'.split("|"),
    ...`"mediaType":|"layers":|"manifests":|${MANIFEST}|\xff|\ufeff`.split("|"),
  ],
  seeds: () => SEEDS.map((text) => Buffer.from(text)),
  check(input) {
    const text = Buffer.from(input).toString("latin1");
    const isChallenge = checkChallenges(text);
    const isRange = checkContentRange(text);
    const waitMs = parseRetryAfter(text, NOW_MS);
    if (waitMs !== null && !(waitMs >= 0)) throw new PropertyError(`a wait of ${waitMs} ms`);
    const results = [null, text, MANIFEST].map((type) =>
      attempt(() => settleMediaType(type, input, "registry.example")),
    );
    const found = results.find((result) => "value" in result);
    if (found === undefined && !isChallenge && !isRange && waitMs === null) {
      throw (results[0] as { error: Error }).error;
    }
    return true;
  },
};

/** Reading what was found once more, quoted, finds the same. */
function checkChallenges(text: string): boolean {
  const challenges = parseChallenges([text]);
  const quote = (value: string) => `"${value.replace(/["\\]/g, "\\$&")}"`;
  for (const { scheme, parameters } of challenges) {
    const list = [...parameters].map(([name, value]) => `${name}=${quote(value)}`);
    const [again] = parseChallenges([`${scheme} ${list.join(", ")}`]);
    checkEqual(again?.scheme, scheme, "scheme");
    checkEqual(JSON.stringify([...again!.parameters]), JSON.stringify([...parameters]), "values");
  }
  return challenges.length > 0;
}

function checkContentRange(text: string): boolean {
  const range = parseContentRange(text);
  if (range === null) return false;
  const { startByte, endByte, sizeBytes } = range;
  if (startByte < 0 || endByte <= startByte || endByte > (sizeBytes ?? Number.MAX_SAFE_INTEGER)) {
    throw new PropertyError(`a range from ${startByte} to ${endByte} of ${sizeBytes}`);
  }
  return true;
}

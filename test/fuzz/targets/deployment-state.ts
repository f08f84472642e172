// Fuzz target: the small files of a deployment, chosen by the first byte: origin, staged file, policy record,
// the image record of old bootc, the records of addons and of trust. What was read can be written and read again; what becomes part of a path is
// a digest.

import { formatAddonRecord, parseAddonRecord } from "../../../updater/deploy/addon-record.ts";
import { parseLegacyImage } from "../../../updater/deploy/legacy-image.ts";
import { formatOrigin, parseOrigin } from "../../../updater/deploy/origin.ts";
import { formatPolicyRecord, parsePolicyRecord } from "../../../updater/deploy/policy-record.ts";
import { formatStagedFile, parseStagedFile } from "../../../updater/deploy/staged-file.ts";
import { formatTrustRecord, parseTrustRecord } from "../../../updater/trust/trust-record.ts";
import { attempt, checkEqual, type FuzzTarget, PropertyError } from "../target.ts";

const ORIGIN = `[origin]
container-image-reference=ostree-unverified-image:docker://quay.io/x/y:tag
[boot]
boot_type=bls
digest=${"ab".repeat(32)}
[image]
manifest_digest=sha256:${"cd".repeat(32)}
`;
const POLICY = {
  policyFile: "/etc/containers/policy.json",
  scope: "docker",
  requirements: [{ type: "signedBy", key: "x", identity: "y", digest: "sha256:00" }],
  time: "2026-01-01T00:00:00Z",
};
const RECORD = { config: {}, manifest: { config: { digest: "sha256:00", size: 1 }, layers: [] } };

const ADDONS = "4".charCodeAt(0);
const TRUST = "5".charCodeAt(0);
const TRUST_RECORD = {
  ...{ form: "signed", unified: false, hasLastingKeys: true, signed: true },
  keys: [{ name: "vendor.pub", base64: Buffer.alloc(32, 9).toString("base64") }],
  ...{ counter: "auto", expired: "refuse", allowMissingVerity: false },
};

export const target: FuzzTarget = {
  focus:
    /^updater\/(deploy\/(origin|staged-file|policy-record|legacy-image|addon-record)|trust\/trust-record)\.ts/,
  maxBytes: 4096,
  words:
    "[origin]|[boot]|[image]|boot_type=|uki|bls|manifest_digest=|sha256:|../|\n|=|{|}|null|true".split(
      "|",
    ),
  seeds: () => [
    Buffer.from(`0${ORIGIN}`),
    Buffer.from(`1{"depl_id":"${"ab".repeat(64)}","finalization_locked":false}`),
    Buffer.from(`2${JSON.stringify(POLICY)}`),
    Buffer.from(`3${JSON.stringify(RECORD)}`),
    Buffer.from(`5${JSON.stringify(TRUST_RECORD)}`),
    Buffer.from('4["bootc-x.addon.efi","bootc-a+1.addon.efi"]\n'),
  ],
  check(input) {
    const bytes = input.subarray(1);
    const text = Buffer.from(bytes).toString("utf8");
    if (input[0] === ADDONS) return checkAddons(text);
    if (input[0] === TRUST) return checkTrust(bytes);
    switch ((input[0] ?? 0) % 4) {
      case 0:
        return checkOrigin(text);
      case 1:
        return checkStaged(text);
      case 2: {
        const record = parsePolicyRecord(bytes, "policy");
        const again = parsePolicyRecord(Buffer.from(formatPolicyRecord(record)), "again");
        checkEqual(JSON.stringify(again), JSON.stringify(record), "Record written and read");
        return true;
      }
      default: {
        const { manifestDigest } = parseLegacyImage(bytes, "imginfo");
        checkEqual(/^sha256:[0-9a-f]{64}$/.test(manifestDigest), true, "Digest of an old record");
        return true;
      }
    }
  },
};

function checkOrigin(text: string): boolean {
  const origin = parseOrigin(text, "origin");
  const safe =
    origin.manifestDigest === null || /^[a-z0-9]+:[0-9a-f]+$/.test(origin.manifestDigest);
  checkEqual(safe, true, "Digest in an origin");
  const written = attempt(() => formatOrigin(origin));
  if ("error" in written) throw new PropertyError(`Origin cannot be written: ${written.error}`);
  const again = parseOrigin(written.value, "again");
  checkEqual(JSON.stringify(again), JSON.stringify(origin), "Origin written and read");
  return true;
}

function checkAddons(text: string): boolean {
  const names = parseAddonRecord(text, "addons");
  for (const name of names) checkEqual(/^bootc-[^/\0]+$/.test(name), true, "Name of an addon");
  const again = parseAddonRecord(formatAddonRecord(names), "again");
  checkEqual(again.join(), [...new Set(names)].sort().join(), "Record written and read");
  return true;
}

function checkTrust(bytes: Uint8Array): boolean {
  const trust = parseTrustRecord(bytes, "trust");
  const written = formatTrustRecord(trust);
  const again = formatTrustRecord(parseTrustRecord(Buffer.from(written), "again"));
  checkEqual(again, written, "Record written and read");
  return true;
}

function checkStaged(text: string): boolean {
  const staged = parseStagedFile(text, "staged");
  checkEqual(/^([0-9a-f]{64}|[0-9a-f]{128})$/.test(staged.id), true, "Id of what is staged");
  const again = parseStagedFile(formatStagedFile(staged), "again");
  checkEqual(JSON.stringify(again), JSON.stringify(staged), "Staged file written and read");
  return true;
}

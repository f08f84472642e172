// Attacks on a root disk, one row each: what is done to a disk that is whole, and what prepare-root must make of it.
// Run on real fs-verity in a VM (test/vm/trust-mounts.test.ts), and without it where it does not matter
// (test/integration/prepare-root-trust.test.ts).

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ESP_FLOOR_FILE } from "../../shared/trust/esp-floor.ts";
import { FORGED } from "./mount-contents.ts";
import {
  IMAGE_MARK,
  OBJECT_MARK,
  type SigningKey,
  sign,
  statementPath,
  type TrustPlace,
  trustKey,
} from "./trust-place.ts";

export interface TrustRow {
  readonly name: string;
  /** To a place where everything is as it should be: signed by `vendor`, version 42. */
  readonly change?: (place: TrustPlace) => void;
  /** Text on the disk of which a byte is changed behind the file system's back. */
  readonly damage?: string;
  /** Default: the image, with fs-verity demanded. */
  readonly cmdline?: (place: TrustPlace) => string;
  /** A line of trust.conf that the row needs on every machine. */
  readonly conf?: readonly string[];
  /** Its point is fs-verity. */
  readonly verity?: boolean;
  /** What prepare-root says: it starts the image, or refuses it with these words. */
  readonly says: RegExp;
  /** What reading files of the new root gives, when that is the point. */
  readonly reads?: Readonly<Record<string, string>>;
}

const STARTS = /^prepare-root: mounted composefs:[^\n]* trust=signed key=[0-9a-f]{16} version=42 /m;
const UNSIGNED = /^prepare-root: mounted composefs:[^\n]* trust=unsigned /m;
const refused = (words: string) => new RegExp(`^prepare-root: refused: [^\\n]*${words}[^\\n]*$`);

const write = (place: TrustPlace, path: string, text: string) => {
  mkdirSync(join(place.disk, path, ".."), { recursive: true });
  writeFileSync(join(place.disk, path), text);
};
const resign = (place: TrustPlace, keys: readonly SigningKey[], fields = {}) =>
  writeFileSync(statementPath(place), sign(place.id, keys, fields));
const editStatement = (place: TrustPlace, change: (text: string) => string) =>
  writeFileSync(statementPath(place), change(readFileSync(statementPath(place), "latin1")));
const putFloor = (place: TrustPlace, text: string) => {
  mkdirSync(join(place.esp, ESP_FLOOR_FILE, ".."), { recursive: true });
  writeFileSync(join(place.esp, ESP_FLOOR_FILE), text);
};
const revoke = (place: TrustPlace, line: string) => {
  mkdirSync(join(place.trust, "revoked.d"), { recursive: true });
  writeFileSync(join(place.trust, "revoked.d/list"), `# not any more\n${line}\n`);
};
const withoutKeys = (place: TrustPlace) => rmSync(join(place.trust, "keys.d"), { recursive: true });
const optional = ({ id }: TrustPlace) => `composefs=?${id}`;
/** Takes its place without fs-verity, as a copy does. */
const copyOver = (place: TrustPlace, path: string) => place.unprotected.add(path);

const FILES: readonly TrustRow[] = [
  {
    name: "a signed image",
    says: STARTS,
    reads: { "usr/share/big": "right", "usr/share/other": "right" },
  },
  {
    name: "a byte of an object",
    verity: true,
    damage: OBJECT_MARK,
    says: STARTS,
    reads: { "usr/share/marked": "EIO", "usr/share/big": "right" },
  },
  {
    name: "an object exchanged for another file",
    verity: true,
    change(place) {
      writeFileSync(join(place.disk, place.objects.other), FORGED);
      copyOver(place, place.objects.other);
    },
    says: STARTS,
    reads: { "usr/share/other": "EIO", "usr/share/big": "right" },
  },
  {
    name: "fs-verity taken from an object",
    verity: true,
    change: (place) => copyOver(place, place.objects.other),
    says: STARTS,
    reads: { "usr/share/other": "EIO", "usr/share/big": "right" },
  },
  {
    name: "fs-verity taken from an object, and a ? on the command line",
    verity: true,
    change: (place) => copyOver(place, place.objects.other),
    cmdline: optional,
    says: STARTS,
    reads: { "usr/share/other": "EIO", "usr/share/big": "right" },
  },
  {
    name: "a byte of the image",
    verity: true,
    damage: IMAGE_MARK,
    says: refused("The image of deployment [^ ]* is damaged \\(.*choose another boot entry"),
  },
  {
    name: "fs-verity taken from the image",
    verity: true,
    change: (place) => copyOver(place, place.objects.image),
    says: refused("is not protected by fs-verity: deploy it again .*trust.conf"),
  },
  {
    name: "fs-verity taken from the image, and a ? on the command line",
    verity: true,
    change: (place) => copyOver(place, place.objects.image),
    cmdline: optional,
    says: refused("is not protected by fs-verity: deploy it again .*trust.conf"),
  },
  {
    name: "no fs-verity where trust.conf allows it",
    verity: true,
    conf: ["allow-missing-verity=true"],
    change: (place) => copyOver(place, place.objects.image),
    cmdline: optional,
    says: STARTS,
  },
  {
    name: "the image exchanged for another signed one",
    change(place) {
      const link = join(place.disk, "composefs/images", place.id);
      rmSync(link);
      symlinkSync(place.other.id, link);
    },
    says: refused("was changed: its fs-verity digest is"),
  },
  {
    name: "the origin file",
    change: (place) =>
      write(place, `state/deploy/${place.id}/${place.id}.origin`, "[origin]\nx=y\n"),
    says: STARTS,
  },
  {
    name: "a splitstream",
    change: (place) => write(place, "composefs/streams/oci-layer-x", "not a stream"),
    says: STARTS,
  },
  {
    name: "the machine's /etc",
    change: (place) => write(place, `state/deploy/${place.id}/etc/machine-file`, "replaced\n"),
    says: STARTS,
    reads: { "etc/machine-file": "replaced\n" },
  },
  {
    name: "settings on the root disk",
    change: (place) =>
      write(place, "usr/lib/composefs/setup-root-conf.toml", "[root]\ntransient = true\n"),
    says: / verity=\w+ root=ro etc=bind var=bind /,
  },
  {
    name: "keys on the root disk",
    change(place) {
      write(place, "usr/lib/bootc/trust/trust.conf", "[image]\nexpired=warn\n");
      write(place, "usr/lib/bootc/trust/keys.d/mine.pub", trustKey("stranger").pub);
      resign(place, [trustKey("stranger")]);
    },
    says: refused("is signed by no key that is trusted here"),
  },
];

const STATEMENTS: readonly TrustRow[] = [
  {
    name: "no statement",
    change: (place) => rmSync(statementPath(place)),
    says: refused("is not signed, and this machine wants a signature"),
  },
  {
    name: "a byte of the statement",
    change: (place) => editStatement(place, (text) => text.replace("version: 42", "version: 43")),
    says: refused('has no good signature by key [0-9a-f]{16} \\("vendor.pub"\\)'),
  },
  {
    name: "a byte of the signature",
    change: (place) =>
      editStatement(place, (text) =>
        text.replace(
          /(signature: \w+ )(.)/,
          (_, head, first) => head + (first === "A" ? "B" : "A"),
        ),
      ),
    says: refused("has no good signature by key"),
  },
  {
    name: "a statement that is cut short",
    change: (place) => editStatement(place, (text) => text.slice(0, -20)),
    says: refused("has no usable statement"),
  },
  {
    name: "a statement with something after it",
    change: (place) => editStatement(place, (text) => `${text}version: 99\n`),
    says: refused("has no usable statement"),
  },
  {
    name: "the statements of two deployments swapped",
    change(place) {
      const [one, two] = [statementPath(place), statementPath(place, place.other.id)];
      renameSync(one, `${one}.tmp`);
      renameSync(two, one);
      renameSync(`${one}.tmp`, two);
    },
    says: refused("has a statement for another one"),
  },
  {
    name: "a statement by another key",
    change: (place) => resign(place, [trustKey("stranger")]),
    says: refused("is signed by no key that is trusted here"),
  },
  {
    name: "a statement by another key that gives itself the trusted one's fingerprint",
    change(place) {
      const { fingerprint } = trustKey("vendor");
      resign(place, [{ ...trustKey("stranger"), fingerprint }]);
    },
    says: refused("has no good signature by key"),
  },
  {
    name: "an expired statement",
    change: (place) => resign(place, [trustKey("vendor")], { expires: "2020-01-01T00:00:00Z" }),
    says: refused("expired at 2020-01-01T00:00:00Z"),
  },
  {
    name: "an expired statement where trust.conf only warns",
    conf: ["expired=warn"],
    change: (place) => resign(place, [trustKey("vendor")], { expires: "2020-01-01T00:00:00Z" }),
    says: STARTS,
  },
  {
    name: "a link in the place of the statement",
    change(place) {
      renameSync(statementPath(place), join(place.disk, "elsewhere"));
      symlinkSync(join(place.disk, "elsewhere"), statementPath(place));
    },
    says: refused("statement of image [^ ]* cannot be read \\(it is not a regular file\\)"),
  },
  {
    name: "a FIFO in the place of the statement",
    change(place) {
      rmSync(statementPath(place));
      execFileSync("mkfifo", [statementPath(place)]);
    },
    says: refused("cannot be read \\(it is not a regular file\\)"),
  },
  {
    name: "a directory in the place of the statement",
    change(place) {
      rmSync(statementPath(place));
      mkdirSync(statementPath(place));
    },
    says: refused("cannot be read \\(it is not a regular file\\)"),
  },
  {
    name: "a statement of megabytes",
    change: (place) => editStatement(place, (text) => text + "x".repeat(1 << 21)),
    says: refused("cannot be read \\(.* is larger than 8192 bytes\\)"),
  },
  {
    name: "a link in the place of the deployment's directory",
    change(place) {
      const path = join(place.disk, "state/deploy", place.id);
      renameSync(path, join(place.disk, "moved"));
      symlinkSync("../../moved", path);
    },
    says: refused("is not signed, and this machine wants a signature"),
  },
];

const KEYS: readonly TrustRow[] = [
  {
    name: "no keys",
    change: withoutKeys,
    says: UNSIGNED,
  },
  {
    name: "a revoked image",
    change: (place) => revoke(place, `digest ${place.id}`),
    says: refused("is revoked: choose another one"),
  },
  {
    name: "a revoked image where there are no keys",
    change(place) {
      withoutKeys(place);
      revoke(place, `digest ${place.id}`);
    },
    says: refused("is revoked: choose another one"),
  },
  {
    name: "an image by a revoked key",
    change(place) {
      place.putKey("next");
      revoke(place, `key ${trustKey("vendor").fingerprint}`);
    },
    says: refused("is signed by key [0-9a-f]{16}, which is revoked"),
  },
  {
    name: "every key revoked",
    change: (place) => revoke(place, `key ${trustKey("vendor").fingerprint}`),
    says: refused("is signed by key [0-9a-f]{16}, which is revoked"),
  },
  {
    name: "signed by old and new key, both trusted",
    change(place) {
      place.putKey("next");
      resign(place, [trustKey("vendor"), trustKey("next")]);
    },
    says: STARTS,
  },
  {
    name: "signed by old and new key, only the new one trusted",
    change(place) {
      place.putKey("next");
      rmSync(join(place.trust, "keys.d/vendor.pub"));
      resign(place, [trustKey("vendor"), trustKey("next")]);
    },
    says: STARTS,
  },
  {
    name: "signed by old and new key, the old one revoked",
    change(place) {
      place.putKey("next");
      revoke(place, `key ${trustKey("vendor").fingerprint}`);
      resign(place, [trustKey("vendor"), trustKey("next")]);
    },
    says: STARTS,
  },
  {
    name: "a public key that is none",
    change: (place) => writeFileSync(join(place.trust, "keys.d/broken.pub"), "not a key\n"),
    says: refused('Cannot read the public key "broken.pub"'),
  },
  {
    name: "a public key of which a byte was changed",
    change: (place) =>
      writeFileSync(join(place.trust, "keys.d/vendor.pub"), trustKey("stranger").pub),
    says: refused("is signed by no key that is trusted here"),
  },
  {
    name: "a link in the place of a public key",
    change(place) {
      symlinkSync("vendor.pub", join(place.trust, "keys.d/linked.pub"));
    },
    says: refused('Cannot use "keys.d/linked.pub" of the trust directory: it is a link'),
  },
  {
    name: "a FIFO in the place of a public key",
    change: (place) => void execFileSync("mkfifo", [join(place.trust, "keys.d/fifo.pub")]),
    says: refused("it is not a regular file"),
  },
  {
    name: "a list of revocations that is none",
    change: (place) => revoke(place, "digest zzz"),
    says: refused('Cannot read "revoked.d/list"'),
  },
  {
    name: "a trust.conf that says something unknown",
    conf: ["counter=perhaps"],
    says: refused(
      'Cannot read "trust.conf" of the trust directory: "counter=perhaps" is not one of',
    ),
  },
];

const FLOORS: readonly TrustRow[] = [
  {
    name: "an older signed image, below the floor",
    change: (place) => putFloor(place, sign(place.other.id, [trustKey("vendor")], { version: 43 })),
    says: refused("has version 42, and this machine starts none below 43"),
  },
  {
    name: "an image at the floor",
    change: (place) => putFloor(place, sign(place.other.id, [trustKey("vendor")], { version: 42 })),
    says: /trust=signed key=\w+ version=42 floor=42\(esp\) /,
  },
  {
    name: "a floor that another key signed",
    change: (place) =>
      putFloor(place, sign(place.other.id, [trustKey("stranger")], { version: 43 })),
    says: /version=42 floor=none /,
  },
  {
    name: "a floor whose version was changed",
    change: (place) =>
      putFloor(
        place,
        sign(place.other.id, [trustKey("vendor")], { version: 43 }).replace("n: 43", "n: 99"),
      ),
    says: /version=42 floor=none /,
  },
  {
    name: "a floor that is noise",
    change: (place) => putFloor(place, "\0".repeat(300)),
    says: /version=42 floor=none /,
  },
  {
    name: "a TPM that trust.conf wants and that is not there",
    conf: ["counter=tpm"],
    says: refused("trust.conf wants the version floor in a TPM \\(counter=tpm\\): There is no TPM"),
  },
];

const COMMAND_LINES: readonly TrustRow[] = [
  {
    name: "no composefs= on a disk with an ordinary system",
    change: (place) => write(place, "usr/lib/os-release", "ID=intruder\n"),
    cmdline: () => "root=/dev/vda2 quiet",
    says: refused(
      "No composefs= on the kernel command line, and this initramfs starts signed images only",
    ),
  },
  {
    name: "ostree= that nobody signed",
    cmdline: () => "ostree=/ostree/boot.1/x/y/0 ostree.prepare-root.composefs=no",
    says: refused('does not say "enabled=signed", and this initramfs starts signed images only'),
  },
  {
    name: "an unsigned image named before the signed one",
    change(place) {
      rmSync(statementPath(place, place.other.id));
    },
    cmdline: ({ id, other }) => `composefs=${other.id} composefs=${id}`,
    says: refused("is not signed, and this machine wants a signature"),
  },
  {
    name: "an image that is not there named before the signed one",
    cmdline: ({ id }) => `composefs=?${"ab".repeat(64)} composefs=?${id}`,
    says: STARTS,
  },
];

export const TRUST_ROWS: readonly TrustRow[] = [
  ...FILES,
  ...STATEMENTS,
  ...KEYS,
  ...FLOORS,
  ...COMMAND_LINES,
];

// Fuzz target: keyfiles (bootc's origin files). What is read can be written and read again.

import { formatIni, type Ini, parseIni } from "../../../shared/format/keyfile/ini.ts";
import { attempt, checkEqual, type FuzzTarget, PropertyError } from "../target.ts";

const SEED = `# comment
[origin]
container-image-reference=ostree-unverified-image:docker://quay.io/x/y:latest

[boot]
boot_type=bls
digest = ${"ab".repeat(32)}
`;

export const target: FuzzTarget = {
  focus: /^shared\/format\/keyfile\//,
  maxBytes: 4096,
  words: ["[", "]", "=", "\n", "\r\n", "#", ";", " ", "\t", "\0", "[origin]\n", "\u00a0", "=="],
  seeds: () => [Buffer.from(SEED), Buffer.from("[a]\nb=c\n")],
  check(input) {
    const text = Buffer.from(input).toString("utf8");
    const ini = parseIni(text, "origin");
    const written = attempt(() => formatIni(ini));
    if ("error" in written) {
      // GLib knows no escape for a carriage return either, but reads it.
      if (/\r/.test(text)) return true;
      throw new PropertyError(`What was read cannot be written: ${written.error.message}`);
    }
    const again = parseIni(written.value, "again");
    checkEqual(
      JSON.stringify(plain(again)),
      JSON.stringify(plain(ini)),
      "Reading what was written",
    );
    return true;
  },
};

function plain(ini: Ini): unknown {
  return [...ini].map(([group, keys]) => [group, [...keys]]);
}

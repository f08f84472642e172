// Fuzz target: boot entries (BLS type 1) with their file names and version order. What was read can be
// written and read again; the order is one.

import { compareEntries, formatEntry, parseEntry } from "../../../shared/format/bls/entry.ts";
import { formatEntryName, parseEntryName } from "../../../shared/format/bls/entry-name.ts";
import { compareVersions } from "../../../shared/format/bls/version.ts";
import { attempt, checkEqual, type FuzzTarget, PropertyError } from "../target.ts";

const SEED = `# made by hand
title Debian GNU/Linux 14
version 6.12.1+deb13-amd64~rc1
linux /EFI/Linux/bootc_composefs-ab/vmlinuz
initrd /EFI/Linux/bootc_composefs-ab/initrd
options root=UUID=x rw composefs=${"ab".repeat(64)}
options quiet
machine-id 0123456789abcdef0123456789abcdef
sort-key bootc-debian-0
grub_class debian
`;

export const target: FuzzTarget = {
  focus: /^shared\/format\/bls\//,
  maxBytes: 4096,
  words: [
    ..."title |version |linux |initrd |options |efi |uki |sort-key |machine-id |\n|\r\n|#|\t|\0".split(
      "|",
    ),
    ..."\u00a0|\u2003|\ufeff|+1-2.conf|~|-|^|.|00|+".split("|"),
  ],
  seeds: () => [
    Buffer.from(SEED),
    Buffer.from("efi /a.efi\nbootc_debian-1.2-1+3-0.conf\n1.2~rc1\n"),
  ],
  check(input) {
    const text = Buffer.from(input).toString("utf8");
    checkNames(text);
    const entry = parseEntry(text, "entry");
    const written = attempt(() => formatEntry(entry));
    if ("error" in written) throw new PropertyError(`Entry cannot be written: ${written.error}`);
    const again = parseEntry(written.value, "again");
    checkEqual(JSON.stringify(again), JSON.stringify(entry), "Entry written and read");
    return true;
  },
};

/** Neighbouring lines as file names and as versions. */
function checkNames(text: string): void {
  const [first = "", second = "", third = ""] = text.split("\n", 3);
  const name = parseEntryName(first);
  if (name !== null) {
    const again = parseEntryName(formatEntryName(name));
    checkEqual(JSON.stringify(again), JSON.stringify(name), "Entry name written and read");
  }
  const order = compareVersions(first, second);
  checkEqual(compareVersions(second, first), order === 0 ? 0 : -order, "Order turned round");
  checkEqual(compareVersions(first, first), 0, "Order of equal versions");
  if (order < 0 && compareVersions(second, third) < 0) {
    checkEqual(compareVersions(first, third) < 0, true, "Order of three versions");
  }
  const ordered = (version: string) => ({
    id: first,
    sortKey: third === "" ? null : third,
    machineId: null,
    version,
    triesLeft: null,
  });
  const entries = compareEntries(ordered(first), ordered(second));
  const turned = compareEntries(ordered(second), ordered(first));
  checkEqual(Math.sign(turned) + Math.sign(entries), 0, "Order of entries");
}

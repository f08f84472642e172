import { expect, test } from "vitest";
import { parseEntry } from "../bls/entry.ts";
import { formatMenuScript } from "./menu-script.ts";

test("entries in their order, every word quoted; what is no linux entry is left out", () => {
  const first = parseEntry(
    `title It's Debian $x\nversion 13\nlinux /boot/bootc_composefs-aa/vmlinuz\ninitrd /a\ninitrd /b\noptions root=UUID=1 dyndbg="file a.c +p" "x=y z" quiet;{}\n`,
    "x",
  );
  const uki = parseEntry("version 1\nefi /EFI/Linux/x.efi\n", "x");
  const plain = parseEntry("linux /v\n", "x");
  const text = formatMenuScript([
    { id: "bootc_debian-13-1", entry: first },
    { id: "uki", entry: uki },
    { id: "plain", entry: plain },
  ]);
  expect(text).toBe(`menuentry 'It'\\''s Debian $x' --id 'bootc_debian-13-1' {
  linux '/boot/bootc_composefs-aa/vmlinuz' 'root=UUID=1' 'dyndbg=file a.c +p' 'x=y z' 'quiet;{}'
  initrd '/a' '/b'
}
menuentry 'plain' --id 'plain' {
  linux '/v'
}
`);
});

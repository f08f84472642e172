// /run/ostree-booted, byte for byte as the real ostree-prepare-root wrote it (boot/README.md).

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseOstreeConfig } from "../../../initrd/ostree/config.ts";
import { planOstreeRoot } from "../../../initrd/ostree/plan.ts";
import { encodeDictionary } from "../../../shared/format/gvariant/dictionary.ts";

const YES = "[composefs]\nenabled=yes\n";

test.each([
  ["cfs-yes", YES],
  ["legacy", ""],
  ["root-transient", `${YES}[root]\ntransient=true\n`],
  ["etc-transient", `${YES}[etc]\ntransient=true\n`],
  ["verity", "[composefs]\nenabled=verity\n"],
])("%s", (name, text) => {
  const { booted } = planOstreeRoot({
    sysroot: "/sysroot",
    run: "/run",
    deployment: "/ostree/deploy/labos/deploy/1.0",
    device: { number: 65024n, inode: 2639280n },
    config: parseOstreeConfig([{ path: "conf", text }], null),
    legacyReadOnly: name === "legacy",
    diskReadOnly: false,
    hasImage: true,
    hasHotfix: false,
    mountsVar: false,
    digest: null,
    etcScratch: "/run/ostree/transient-etc.LRIMZ3",
  });
  const expected = readFileSync(join(import.meta.dirname, `boot/${name}.bin`));
  expect(Buffer.from(encodeDictionary(booted)).toString("hex")).toBe(expected.toString("hex"));
});

// Contents are found by their SHA-256 among stored files, wherever these lie; nothing counts that was not hashed,
// and how much is hashed in vain is bounded.

import { expect, test } from "vitest";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { readStoredFiles } from "../../updater/image/stored-files.ts";
import {
  FIRST,
  makeFilesTar,
  noise,
  pullLayout,
  repo,
  useChunkedCase,
  writeOne,
} from "../support/chunked-case.ts";

useChunkedCase();

const wanted = (name: string, content: Buffer) => ({
  name,
  sizeBytes: content.length,
  digest: computeDigest(content),
});

/** Forty files of one size. */
const CROWD = Object.fromEntries(
  Array.from({ length: 40 }, (_, i) => [`usr/crowd/${i}`, noise(`crowd ${i}`, 5000)]),
);

test("by path, elsewhere, and in the headers", async () => {
  await pullLayout(repo, writeOne("image", [{ tar: makeFilesTar({ ...FIRST, ...CROWD }) }]).path);
  const stored = await readStoredFiles(repo);
  const huge = FIRST["usr/huge"]!;
  const object = await stored.find(wanted("usr/huge", huge));
  expect(object).toMatchObject({ kind: "object" });
  for (const name of ["./usr/huge", "/usr/huge", "elsewhere", "", "../../etc/passwd"]) {
    expect(await stored.find(wanted(name, huge))).toEqual(object);
  }
  expect(await stored.find(wanted("x", FIRST["usr/tiny"]!))).toMatchObject({ kind: "bytes" });
  expect(await stored.find(wanted("x", Buffer.from("TINY")))).toBeNull();
  expect(await stored.find(wanted("usr/huge", noise("other", huge.length)))).toBeNull();
  expect(await stored.find({ ...wanted("usr/huge", huge), sizeBytes: 7 })).toEqual(object);
});

test("among many of the same size only some are tried, but a path leads to its file", async () => {
  await pullLayout(repo, writeOne("image", [{ tar: makeFilesTar(CROWD) }]).path);
  const stored = await readStoredFiles(repo);
  const absent = noise("absent", 5000);
  const all = Object.entries(CROWD);
  expect(await stored.find(wanted("usr/crowd/absent", absent))).toBeNull();
  for (const [name, content] of all) {
    expect(await stored.find(wanted(name, content))).toMatchObject({ kind: "object" });
  }
  for (const [, content] of all) {
    expect(await stored.find(wanted("elsewhere", content))).toMatchObject({ kind: "object" });
  }
  expect(await stored.find(wanted("usr/crowd/1", absent))).toBeNull();
});

test("objects that are known to be damaged are left out", async () => {
  await pullLayout(repo, writeOne("image", [{ tar: makeFilesTar(FIRST) }]).path);
  const huge = wanted("usr/huge", FIRST["usr/huge"]!);
  const found = await (await readStoredFiles(repo)).find(huge);
  if (found?.kind !== "object") throw new Error("not found");
  expect(await (await readStoredFiles(repo, new Set([found.digest]))).find(huge)).toBeNull();
});

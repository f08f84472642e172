// Tables of contents of zstd:chunked layers that lie or make no sense, though the manifest vouches for them:
// the layer that is stored is the right one all the same, or none at all.

import { describe, expect, test } from "vitest";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import {
  expectSame,
  FIRST,
  firstTar,
  layerStreams,
  pullFirst,
  pullServed,
  repo,
  secondTar,
  useChunkedCase,
  writeOne,
} from "../support/chunked-case.ts";
import { type ChunkedLies, makeChunkedLayer } from "../support/chunked-layer.ts";

useChunkedCase();

describe("a table that is no good costs nothing but time", () => {
  const PREFIX = "io.github.containers.zstd-chunked.";
  const entry = (toc: { entries: { name: string }[] }, name: string) =>
    toc.entries.find((each) => each.name === name) as Record<string, unknown>;

  /** Found out while the plan is made: `whole`; later: `partial`. */
  test.each<[string, "whole" | "partial", ChunkedLies]>([
    [
      "not what the manifest promises",
      "whole",
      {
        annotations: (all) => {
          all[`${PREFIX}manifest-checksum`] = computeDigest(Buffer.from("x"));
        },
      },
    ],
    [
      "somewhere else",
      "whole",
      {
        annotations: (all) => {
          all[`${PREFIX}manifest-position`] = "0:100:1000:1";
        },
      },
    ],
    [
      "larger than it says",
      "whole",
      {
        annotations: (all) => {
          const position = all[`${PREFIX}manifest-position`]!.split(":");
          all[`${PREFIX}manifest-position`] = `${position[0]}:${position[1]}:100:1`;
        },
      },
    ],
    [
      "nonsense in its annotations",
      "whole",
      {
        annotations: (all) => {
          all[`${PREFIX}tarsplit-position`] = "a:b:c";
        },
      },
    ],
    [
      "without tar-split data",
      "whole",
      { annotations: (all) => delete all[`${PREFIX}tarsplit-position`] },
    ],
    ["no JSON", "whole", { tocText: () => "{" }],
    [
      "of another version",
      "whole",
      { tocText: (text) => text.replace('"version":1', '"version":9') },
    ],
    [
      "wrong about the tar-split data's digest",
      "whole",
      {
        toc: (toc) => {
          toc.tarSplitDigest = computeDigest(Buffer.from("x"));
        },
      },
    ],
    [
      "with files that overlap",
      "whole",
      {
        toc: (toc) => {
          entry(toc, "usr/new")["offset"] = 5;
        },
      },
    ],
    [
      "with a file behind the end",
      "whole",
      {
        toc: (toc) => {
          entry(toc, "usr/small")["endOffset"] = 2 ** 40;
        },
      },
    ],
    [
      "wrong about a file's digest, which nobody has",
      "partial",
      {
        toc: (toc) => {
          entry(toc, "usr/new")["digest"] = computeDigest(Buffer.from("x"));
        },
      },
    ],
    [
      "wrong about a file's digest, which is that of another file that is here",
      "partial",
      {
        toc: (toc) => {
          entry(toc, "usr/f7")["digest"] = computeDigest(FIRST["usr/f7"]!);
        },
      },
    ],
    [
      "wrong about a file's size, too small",
      "partial",
      {
        toc: (toc) => {
          entry(toc, "usr/new")["size"] = 69_999;
        },
      },
    ],
    [
      "wrong about a file's size, larger than any",
      "whole",
      {
        toc: (toc) => {
          entry(toc, "usr/small")["size"] = 2 ** 50;
        },
      },
    ],
    [
      "wrong about a file's size, too large",
      "partial",
      {
        toc: (toc) => {
          entry(toc, "usr/small")["size"] = 2_000_000;
        },
      },
    ],
    [
      "wrong about where a file begins",
      "partial",
      {
        toc: (toc) => {
          (entry(toc, "usr/new")["offset"] as number) -= 1;
        },
      },
    ],
    [
      "wrong about where a file ends",
      "partial",
      {
        toc: (toc) => {
          (entry(toc, "usr/f7")["endOffset"] as number) -= 1;
        },
      },
    ],
    [
      "wrong about where a large file ends",
      "partial",
      {
        toc: (toc) => {
          entry(toc, "usr/huge")["digest"] = computeDigest(Buffer.from("x"));
          (entry(toc, "usr/huge")["endOffset"] as number) -= 10;
        },
      },
    ],
    [
      "without one of the files",
      "partial",
      {
        toc: (toc) => {
          toc.entries = toc.entries.filter(({ name }) => name !== "usr/f9");
        },
      },
    ],
    [
      "with one file more",
      "partial",
      { toc: (toc) => toc.entries.push({ ...toc.entries.at(-1)!, name: "x", ...tail(toc) }) },
    ],
    ["about another tar", "partial", { tarSplitOf: firstTar }],
    [
      "with tar-split data of other headers",
      "partial",
      { tarSplit: (text) => text.replace(/"payload":"dXNy/, '"payload":"dXNz') },
    ],
    [
      "with tar-split data cut short",
      "partial",
      { tarSplit: (text) => text.slice(0, -text.length >> 1) },
    ],
    ["with tar-split data that is none", "partial", { tarSplit: () => "garbage" }],
  ])("%s", async (_, method, lies) => {
    await pullFirst();
    const image = writeOne("image", [makeChunkedLayer(secondTar, lies)]);
    const { plan } = await pullServed(image);
    expect(plan.layers).toMatchObject([{ method }]);
    await expectSame(image);
  });

  /** A place of its own for one entry more. */
  function tail(toc: { entries: { endOffset?: number }[] }) {
    const offset = Math.max(...toc.entries.map(({ endOffset = 0 }) => endOffset));
    return { offset, endOffset: offset + 1 };
  }

  test("a layer that is another than its diff_id says is refused, whatever its table says", async () => {
    await pullFirst();
    const diffId = computeDigest(Buffer.from("another tar"));
    const { path, built } = writeOne("image", [{ ...makeChunkedLayer(secondTar), diffId }]);
    await expect(pullServed({ path, built })).rejects.toThrow(/unpacks to a tar with digest/);
    expect(layerStreams(repo, built)).toEqual([null]);
  });
});

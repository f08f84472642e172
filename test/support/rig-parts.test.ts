// The rig's pure parts: quoting for the guest's shell, console text, PAX records.

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { commandLine } from "../vm/agent.ts";
import { plainLines, textLog } from "../vm/events.ts";
import { writeLayer } from "../vm/layer-tar.ts";
import { binaryPax, isText } from "../vm/layer-xattrs.ts";

describe("the guest's shell", () => {
  const shell = (command: string) => {
    const input = commandLine(command, "n");
    return spawnSync("bash", ["--noprofile", "--norc"], { input }).stdout.toString();
  };

  it.each([
    ["echo 'it'\"'\"'s'; false", "it's\n\n@@RIG-n 1\n"],
    ["cat <<X\none\ntwo\nX", "one\ntwo\n\n@@RIG-n 0\n"],
    ["exit 7", "\n@@RIG-n 7\n"],
    ["printf x >&2; cat", "x\n@@RIG-n 0\n"],
  ])("runs %j", (command, output) => {
    expect(shell(command)).toBe(output);
  });

  it("outlives a syntax error", () => {
    expect(shell("if (")).toMatch(/syntax error[\s\S]*\n@@RIG-n [12]\n$/);
  });
});

describe("console text", () => {
  it("drops escape sequences and empty lines", () => {
    expect(plainLines("\x1b[1;1H\x1b[2Jone\r\n\r\n\x1b[0mtwo\x1b(B")).toEqual(["one", "two"]);
  });

  it("finds each match once, in order, across chunks", async () => {
    const log = textLog();
    const first = log.waitFor(/boot (\d)/);
    log.push(Buffer.from("boo"));
    log.push(Buffer.from("t 1, boot 2"));
    expect((await first)[1]).toBe("1");
    expect((await log.waitFor(/boot (\d)/))[1]).toBe("2");
  });
});

describe("layers", () => {
  it("writes a PAX header whose record lengths count themselves", () => {
    const value = Buffer.from([1, 0, 0, 2, 0xff, 0xfe, 0x80, 10]);
    expect(isText(value)).toBe(false);
    for (let pad = 0; pad < 120; pad++) {
      const block = binaryPax([[`user.${"k".repeat(pad)}`, value]]);
      const record = block.subarray(512);
      const length = Number.parseInt(record.toString("latin1"), 10);
      expect(record[length - 1]).toBe(10);
      expect(record.subarray(length).every((byte) => byte === 0)).toBe(true);
      expect(block.length % 512).toBe(0);
    }
  });

  it("packs what GNU tar reads back", async () => {
    const dir = mkdtempSync(join(tmpdir(), "layer-"));
    try {
      const tree = join(dir, "tree");
      const long = `${"d".repeat(90)}/${"é".repeat(60)}`;
      mkdirSync(join(tree, "d".repeat(90)), { recursive: true });
      writeFileSync(join(tree, long), "long");
      writeFileSync(join(tree, "a"), "x".repeat(1000), { mode: 0o640 });
      spawnSync("ln", [join(tree, "a"), join(tree, "b")]);
      symlinkSync("a", join(tree, "link"));
      const layer = await writeLayer(tree, join(dir, "layer.tar.zst"));
      const tar = Bun.zstdDecompressSync(readFileSync(join(dir, "layer.tar.zst")));
      expect(tar.length).toBe(layer.tarSize);
      const list = spawnSync("tar", ["-tvf", "-"], { input: tar, env: { LC_ALL: "C.UTF-8" } });
      const text = list.stdout.toString();
      expect(text).toMatch(/-rw-r----- .* 1000 .* a\n/);
      expect(text).toMatch(/ b link to a\n/);
      expect(text).toMatch(/ link -> a\n/);
      expect(text).toContain(`${"é".repeat(60)}\n`);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
});

import { describe, expect, test } from "vitest";
import { MOUNT_ATTR } from "../../shared/sys/constants.ts";
import { parseMountOptions } from "./mount-options.ts";

const PLAIN = {
  basedirs: ["a"],
  digest: null,
  verity: "off",
  attributes: 0,
  upper: null,
  idmap: null,
};
const HEX = "ab".repeat(32);

describe("parseMountOptions", () => {
  test.each([
    ["basedir=a", {}],
    ["basedir=a:b", { basedirs: ["a", "b"] }],
    ["ro,basedir=x,basedir=a", { attributes: MOUNT_ATTR.RDONLY }],
    ["ro,rw,basedir=a", {}],
    ["rw,nosuid,basedir=a,nodev", { attributes: MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV }],
    ["noexec,nosuid,suid,basedir=a", { attributes: MOUNT_ATTR.NOEXEC }],
    ["basedir=x\\,y\\\\z\\=", { basedirs: ["x,y\\z="] }],
    ["basedir=a\\", {}],
    ["basedir=a,verity", { verity: "require" }],
    ["basedir=a,tryverity", { verity: "try" }],
    ["basedir=a,verity,tryverity", { verity: "require" }],
    [`basedir=a,digest=${HEX.toUpperCase()}`, { verity: "require", digest: HEX }],
    [`basedir=a,digest=${HEX}${HEX}`, { verity: "require", digest: HEX + HEX }],
    ["basedir=a,upperdir=u,workdir=w", { upper: { upperdir: "u", workdir: "w" } }],
    ["basedir=a,idmap=/proc/1/ns/user", { idmap: "/proc/1/ns/user" }],
  ])("reads %s", (text, expected) => {
    expect(parseMountOptions(text)).toEqual({ ...PLAIN, ...expected });
  });

  test.each([
    ["", '"basedir" is missing'],
    ["ro", '"basedir" is missing'],
    ["basedir", '"basedir" needs a value'],
    ["basedir=", "empty path"],
    ["basedir=a::b", "empty path"],
    ["basedir=a,", 'Unsupported option ""'],
    ["basedir=a,,ro", 'Unsupported option ""'],
    ["basedir=a:", "empty path"],
    ["basedir=a,toString", 'Unsupported option "toString"'],
    ["basedir=a,noverity", 'Unsupported option "noverity"'],
    ["basedir=a,upperdir=u", "need each other"],
    ["basedir=a,digest=68", "no fs-verity digest"],
  ])("refuses %j", (text, message) => {
    expect(() => parseMountOptions(text)).toThrow(message);
  });
});

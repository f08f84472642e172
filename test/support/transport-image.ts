// A small image that can boot and that the real tools (podman's storage, dockerd) can unpack, with what
// transports could lose: whiteouts of both kinds, hard links, devices, capabilities, odd and long names.

import type { TestImage } from "./oci-builder.ts";
import { makeOs, SMALL_KERNEL } from "./small-os.ts";
import { paxMember, TAR_END, tarMember } from "./tar-builder.ts";

/** struct vfs_cap_data, revision 2: CAP_NET_RAW. */
const CAPABILITY = Buffer.from("0100000200200000000000000000000000000000", "hex");

/** Three layers, two of them compressed. `oddName` is a file's name in latin1: not UTF-8, unless one is given. */
export async function makeTransportImage(tag: string, oddName = "b\xe9d"): Promise<TestImage> {
  const base = (await makeOs()).layers[0]!.tar;
  const middle = makeMiddle(oddName);
  return { tag, layers: [{ tar: base }, { tar: middle }, { tar: TOP, compression: "none" }] };
}

const directory = (name: string) => tarMember({ name, type: "5", mode: 0o755 });
const makeMiddle = (oddName: string) =>
  Buffer.concat([
    tarMember({ name: "usr/lib/modules/6.12/vmlinuz", content: SMALL_KERNEL }),
    tarMember({
      name: "usr/lib/modules/6.12/initramfs.img",
      content: Buffer.alloc(2_500_000, "initramfs"),
    }),
    paxMember([
      ["SCHILY.xattr.security.capability", CAPABILITY],
      ["SCHILY.xattr.user.note", "b"],
    ]),
    tarMember({ name: "usr/bin/cap", content: Buffer.alloc(90, "c") }),
    tarMember({
      name: Buffer.from(`usr/bin/${oddName}`, "latin1"),
      content: Buffer.alloc(100, "x"),
    }),
    paxMember([["path", `usr/lib/${"n".repeat(120)}`]]),
    tarMember({ name: "short", content: Buffer.alloc(700, "long") }),
    tarMember({ name: "usr/fifo", type: "6" }),
    tarMember({ name: "usr/null", type: "3", device: [1, 3] }),
    directory("usr/opaque"),
    tarMember({ name: "usr/opaque/old", content: Buffer.alloc(200, "o") }),
    TAR_END,
  ]);
const TOP = Buffer.concat([
  tarMember({ name: "etc/.wh.gone" }),
  tarMember({ name: "etc/new", content: Buffer.alloc(65, "n") }),
  directory("usr/opaque"),
  tarMember({ name: "usr/opaque/.wh..wh..opq" }),
  tarMember({ name: "usr/opaque/newer", content: Buffer.alloc(200, "n") }),
  tarMember({ name: "usr/bin/tool3", type: "1", linkName: "etc/new" }),
  TAR_END,
]);

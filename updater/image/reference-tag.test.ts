import { describe, expect, test } from "vitest";
import type { Transport } from "./reference.ts";
import { withTag } from "./reference-tag.ts";

const DIGEST = `sha256:${"a0".repeat(32)}`;

describe("withTag", () => {
  test.each<[string, Transport, string]>([
    ["quay.io/example/os", "registry", "quay.io/example/os:new"],
    ["quay.io/example/os:latest", "registry", "quay.io/example/os:new"],
    [`quay.io/example/os@${DIGEST}`, "registry", "quay.io/example/os:new"],
    [`quay.io/example/os:1@${DIGEST}`, "registry", "quay.io/example/os:new"],
    ["localhost:5000/os", "registry", "localhost:5000/os:new"],
    ["localhost:5000/os:1", "registry", "localhost:5000/os:new"],
    ["[::1]:5000/os:1", "registry", "[::1]:5000/os:new"],
    ["debian", "registry", "debian:new"],
    ["localhost/bootc:1", "containers-storage", "localhost/bootc:new"],
    ["/images/os", "oci", "/images/os:new"],
    ["/images/os:1", "oci", "/images/os:new"],
    [
      "/images/os.tar:example.com:5000/os:1",
      "oci-archive",
      "/images/os.tar:example.com:5000/os:new",
    ],
    ["/images/os.tar:@0", "docker-archive", "/images/os.tar:new"],
    ["/srv/me@here/os:1", "oci", "/srv/me@here/os:new"],
  ])("%s in %s", (image, transport, expected) => {
    expect(withTag({ transport, image }, "new")).toEqual({ transport, image: expected });
  });

  test("how signatures are checked stays", () => {
    const reference = {
      transport: "registry",
      image: "quay.io/os:1",
      signature: "containerPolicy",
    };
    expect(withTag(reference as Parameters<typeof withTag>[0], "2")).toEqual({
      ...reference,
      image: "quay.io/os:2",
    });
  });

  test.each(["", ".", "-x", "a b", "a/b", "a:b", "ä", "x".repeat(129)])("%j is no tag", (tag) => {
    expect(() => withTag({ transport: "registry", image: "quay.io/os" }, tag)).toThrow("not a tag");
  });

  test("a directory has no tags", () => {
    expect(() => withTag({ transport: "dir", image: "/os" }, "1")).toThrow("have no tags");
  });
});

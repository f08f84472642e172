import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeImageReference } from "../reference.ts";
import { parsePolicy } from "./policy-file.ts";
import { chooseRequirements, describeSubject } from "./scopes.ts";

const DIGEST = `sha256:${"ab".repeat(32)}`;
const subject = (transport: string, image: string) =>
  describeSubject(makeImageReference(transport, image));

describe("names in registries", () => {
  test.each<[string, string[]]>([
    [
      "quay.io/os/desktop:v1",
      ["quay.io/os/desktop:v1", "quay.io/os/desktop", "quay.io/os", "quay.io", "*.io"],
    ],
    [
      "a.b.example.com:5000/x",
      [
        ...["a.b.example.com:5000/x:latest", "a.b.example.com:5000/x", "a.b.example.com:5000"],
        ...["*.b.example.com", "*.example.com", "*.com"],
      ],
    ],
    [
      "debian",
      ["docker.io/library/debian:latest", "docker.io/library/debian", "docker.io/library"].concat(
        ...["docker.io", "*.io"],
      ),
    ],
    [`localhost/x:v1@${DIGEST}`, [`localhost/x@${DIGEST}`, "localhost/x", "localhost"]],
    ["QUAY.IO/x:1", ["quay.io/x:1", "quay.io/x", "quay.io", "*.io"]],
  ])("%s", (image, scopes) => {
    expect(subject("registry", image)).toMatchObject({ transport: "docker", scopes });
  });

  test("the name under which an image was found counts, not a short one", () => {
    const found = { host: "reg.example", repository: "debian", tag: "13", digest: null };
    const { scopes } = describeSubject(makeImageReference("registry", "debian:13"), found);
    expect(scopes).toEqual(
      ["reg.example/debian:13", "reg.example/debian", "reg.example"].concat("*.example"),
    );
  });
});

describe("paths", () => {
  test("a directory, its parents, without symlinks and without /", () => {
    const root = realpathSync(mkdtempSync(join(tmpdir(), "scopes-")));
    try {
      mkdirSync(join(root, "real/image"), { recursive: true });
      symlinkSync("real", join(root, "link"));
      const wanted = [join(root, "real/image"), join(root, "real"), root];
      expect(subject("dir", join(root, "link/image")).scopes.slice(0, 3)).toEqual(wanted);
      expect(subject("oci", `${join(root, "link/image")}:v1`).scopes.slice(0, 3)).toEqual(wanted);
      expect(subject("dir", root).scopes).not.toContain("/");
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  test("they have no name for signatures", () => {
    expect(subject("oci", "/x:quay.io/a/b:1").reference).toBeNull();
    expect(subject("docker-archive", "/x.tar:quay.io/a/b:1")).toMatchObject({
      scopes: [],
      reference: { name: "quay.io/a/b", tag: "1" },
    });
  });

  test("storage names its driver and place", () => {
    expect(subject("containers-storage", "[overlay@/srv/s+/run/s]localhost/os:1").scopes).toEqual([
      "[overlay@/srv/s]localhost/os:1",
      "[overlay@/srv/s]localhost/os",
      "[overlay@/srv/s]localhost",
      "[overlay@/srv/s]",
      "[/srv/s]",
    ]);
  });
});

test("the most specific scope decides alone", () => {
  const requirement = (name: string) => [{ type: "signedBy", keyType: "GPGKeys", keyPath: name }];
  const policy = parsePolicy(
    Buffer.from(
      JSON.stringify({
        default: requirement("default"),
        transports: {
          docker: {
            "": requirement("docker"),
            "quay.io": requirement("host"),
            "*.quay.io": requirement("wildcard"),
            "quay.io/os": requirement("namespace"),
            "quay.io/os/a:1": requirement("tag"),
          },
          dir: { "/srv": requirement("path") },
        },
      }),
    ),
    "p",
  );
  const keyOf = (transport: string, image: string) => {
    const { requirements } = chooseRequirements(policy, subject(transport, image));
    return (requirements[0] as { keyPath?: string }).keyPath;
  };
  expect(keyOf("registry", "quay.io/os/a:1")).toBe("tag");
  expect(keyOf("registry", "quay.io/os/a:2")).toBe("namespace");
  expect(keyOf("registry", "quay.io/osx/a:1")).toBe("host");
  expect(keyOf("registry", "quay.io:443/os/a:1")).toBe("docker");
  expect(keyOf("registry", "cdn.quay.io/os/a")).toBe("wildcard");
  expect(keyOf("registry", "debian")).toBe("docker");
  expect(keyOf("dir", "/srv/x")).toBe("path");
  expect(keyOf("dir", "/srvx")).toBe("default");
  expect(keyOf("oci", "/srv/x")).toBe("default");
});

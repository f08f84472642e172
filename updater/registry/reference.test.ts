// Names of images: what is read, what it becomes, what is refused with which advice.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UsageError } from "../../shared/error.ts";
import {
  formatRegistryReference,
  parseLocatedReference,
  parseRegistryReference,
  parseShortName,
  splitLocation,
} from "./reference.ts";

const SHA256 = `sha256:${"0123456789abcdef".repeat(4)}`;
const SHA512 = `sha512:${"0123456789abcdef".repeat(8)}`;

test.each([
  // As distribution/reference reads them: [text, host, repository, tag, digest]
  ["debian", "docker.io", "library/debian", "latest", null],
  ["debian:12", "docker.io", "library/debian", "12", null],
  ["user/app", "docker.io", "user/app", "latest", null],
  ["docker.io/debian", "docker.io", "library/debian", "latest", null],
  ["index.docker.io/debian", "docker.io", "library/debian", "latest", null],
  ["docker.io/library/debian", "docker.io", "library/debian", "latest", null],
  ["quay.io/fedora/fedora-bootc:42", "quay.io", "fedora/fedora-bootc", "42", null],
  ["localhost/app", "localhost", "app", "latest", null],
  ["localhost:5000/a/b/c:v1", "localhost:5000", "a/b/c", "v1", null],
  ["127.0.0.1:5000/app", "127.0.0.1:5000", "app", "latest", null],
  ["[::1]:5000/app:x", "[::1]:5000", "app", "x", null],
  ["[2001:db8::1]/app", "[2001:db8::1]", "app", "latest", null],
  ["host:443/app", "host:443", "app", "latest", null],
  ["a.b/c", "a.b", "c", "latest", null],
  ["sub-dom1.foo.com/bar/baz/quux", "sub-dom1.foo.com", "bar/baz/quux", "latest", null],
  ["xn--7o8h.com/app", "xn--7o8h.com", "app", "latest", null],
  ["quay.io/a_b/c__d/e--f/g.h", "quay.io", "a_b/c__d/e--f/g.h", "latest", null],
  ["quay.io/app:Some_tag.1-x", "quay.io", "app", "Some_tag.1-x", null],
  [`quay.io/app:${"t".repeat(128)}`, "quay.io", "app", "t".repeat(128), null],
  [`quay.io/app@${SHA256}`, "quay.io", "app", null, SHA256],
  [`quay.io/app@${SHA512}`, "quay.io", "app", null, SHA512],
  [`quay.io/app:v1@${SHA256}`, "quay.io", "app", "v1", SHA256],
  [`debian@${SHA256}`, "docker.io", "library/debian", null, SHA256],
  // A dozen hex digits are a name, 64 are not.
  ["0123456789ab", "docker.io", "library/0123456789ab", "latest", null],
  // Host names mean the same in any case.
  ["QUAY.io/app", "quay.io", "app", "latest", null],
  ["LocalHost/app", "localhost", "app", "latest", null],
  ["Docker.IO/debian", "docker.io", "library/debian", "latest", null],
  [`quay.io/${"a".repeat(255)}`, "quay.io", "a".repeat(255), "latest", null],
] as const)("%s", (text, host, repository, tag, digest) => {
  const reference = { host, repository, tag, digest };
  expect(parseRegistryReference(text)).toEqual(reference);
  expect(parseRegistryReference(formatRegistryReference(reference))).toEqual(reference);
});

describe("refused", () => {
  test.each([
    ["", /a part of the name is empty/],
    ["/app", /a part of the name is empty/],
    ["quay.io/", /a part of the name is empty/],
    ["quay.io//app", /a part of the name is empty/],
    ["quay.io/app/", /a part of the name is empty/],
    ["App", /repository names are lower case; write "app"/],
    ["Foo/bar", /repository names are lower case; write "foo\/bar"/],
    ["quay.io/Fedora/bootc:42", /repository names are lower case; write "fedora\/bootc"/],
    ["https://quay.io/app", /"https:\/\/" does not belong to it; leave it out/],
    ["docker://quay.io/app", /"docker:\/\/" does not belong/],
    ["quay.io/app:", /"" is not a tag/],
    ["quay.io/app:-x", /"-x" is not a tag/],
    ["quay.io/app:a b", /is not a tag/],
    ["quay.io/app:ü", /is not a tag/],
    [`quay.io/app:${"t".repeat(129)}`, /is not a tag; tags are up to 128/],
    ["quay.io/a..b", /"a\.\.b" is not a part of a repository name/],
    ["quay.io/../etc", /"\.\." is not a part/],
    ["quay.io/-a", /"-a" is not a part/],
    ["quay.io/a_", /"a_" is not a part/],
    ["quay.io/a___b", /"a___b" is not a part/],
    ["quay.io/app%2f..", /is not a part/],
    ["quay.io/app\n", /is not a part/],
    ["quay.io:0/app", /"0" is not a port/],
    ["quay.io:65536/app", /"65536" is not a port/],
    ["quay.io:/app", /"" is not a port/],
    ["quay.io:5x/app", /"5x" is not a port/],
    ["-quay.io/app", /is not a host name/],
    ["quay..io/app", /is not a host name/],
    [".quay.io/app", /is not a host name/],
    ["quay.io./app", /is not a host name/],
    ["quay.5000/app", /is not a host name/],
    ["127.1:5000/app", /is not a host name/],
    ["quay.0x7f/app", /is not a host name/],
    ["1.2.3.256/app", /is not a host name/],
    ["user@quay.io/app", /"quay\.io\/app" is not a digest/],
    ["[::1/app", /is not a host name/],
    ["[::g]:5000/app", /is not a host name/],
    ["[fe80::1%eth0]:5000/app", /is not a host name/],
    ["doc\u212aer.io/app", /is not a host name/],
    [`${"a".repeat(252)}.com/app`, /is not a host name/],
    [`quay.io/${"a".repeat(256)}`, /longer than 255 characters/],
    ["0123456789abcdef".repeat(4), /64 hex digits are an image ID/],
    // CVE-2024-3727
    ["quay.io/app@", /is not a digest/],
    ["quay.io/app@sha256:../../etc/passwd", /is not a digest/],
    [`quay.io/app@${SHA256}/x`, /is not a digest/],
    [`quay.io/app@${SHA256.toUpperCase()}`, /is not a digest/],
    [`quay.io/app@sha256:${"A".repeat(64)}`, /is not a digest/],
    [`quay.io/app@sha256:${"a".repeat(63)}`, /is not a digest/],
    [`quay.io/app@sha256:${"a".repeat(65)}`, /is not a digest/],
    [`quay.io/app@sha512:${"a".repeat(64)}`, /is not a digest/],
    [`quay.io/app@md5:${"a".repeat(32)}`, /is not a digest/],
    [`quay.io/app@${SHA256}@${SHA256}`, /is not a digest/],
    [`quay.io/app@${SHA256}:tag`, /is not a digest/],
  ] as const)("%j", (text, message) => {
    expect(() => parseRegistryReference(text)).toThrow(UsageError);
    expect(() => parseRegistryReference(text)).toThrow(message);
  });

  test("a long text is cut in the message", () => {
    expect(() => parseRegistryReference("A".repeat(100_000))).toThrow(
      /^"A{100}…" is not a valid name: it is longer than 1024 characters$/,
    );
  });
});

test.each([
  ["debian", { path: "debian", tag: null, digest: null }],
  ["user/app:1", { path: "user/app", tag: "1", digest: null }],
  [`app@${SHA256}`, { path: "app", tag: null, digest: SHA256 }],
  ["quay.io/app", null],
  ["localhost/app", null],
  ["host:5000/app", null],
] as const)("short name %s", (text, expected) => {
  expect(parseShortName(text)).toEqual(expected);
});

test("a located reference begins with its host however that looks", () => {
  expect(parseLocatedReference("registry/debian:12")).toEqual({
    host: "registry",
    repository: "debian",
    tag: "12",
    digest: null,
  });
  expect(() => parseLocatedReference("registry")).toThrow(/no repository/);
});

test.each([
  ["quay.io", "quay.io", ""],
  ["Quay.io:443", "quay.io:443", ""],
  ["quay.io/fedora", "quay.io", "/fedora"],
  ["quay.io/fedora/bootc:42", "quay.io", "/fedora/bootc:42"],
  [`registry/x@${SHA256}`, "registry", `/x@${SHA256}`],
] as const)("location %s", (text, host, rest) => {
  expect(splitLocation(text)).toEqual({ host, rest });
});

test.each([["quay.io/"], ["quay.io/A"], ["https://quay.io"], ["quay.io/a:"], ["quay io"]])(
  "location %j is refused",
  (text) => {
    expect(() => splitLocation(text)).toThrow(UsageError);
  },
);

const alnum = fc.string({
  unit: fc.constantFrom(..."abcxyz0189"),
  minLength: 1,
  maxLength: 6,
});
const component = fc
  .tuple(alnum, fc.array(fc.tuple(fc.constantFrom(".", "_", "__", "-", "---"), alnum)))
  .map(([first, rest]) => first + rest.flat().join(""));
/** Only addresses end in a number. */
const label = alnum.filter((text) => !/^(?:\d+|0x[0-9a-f]*)$/.test(text));
const host = fc.oneof(
  fc.constantFrom("docker.io", "localhost", "[::1]:5000", "[2001:db8::7]", "10.0.0.1:80"),
  fc.tuple(alnum, label).map(([a, b]) => `${a}.${b}`),
  fc.tuple(label, fc.integer({ min: 1, max: 65535 })).map(([a, port]) => `${a}:${port}`),
);
const tag = fc.stringMatching(/^\w[\w.-]{0,20}$/);
const digest = fc.stringMatching(/^[0-9a-f]{64}$/).map((hex) => `sha256:${hex}`);

describe("properties", () => {
  test("what is formatted is read as the same reference", () => {
    const reference = fc.record({
      host,
      path: fc.array(component, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/")),
      tag: fc.option(tag),
      digest: fc.option(digest),
    });
    fc.assert(
      fc.property(reference, ({ host, path, tag, digest }) => {
        const repository = host === "docker.io" && !path.includes("/") ? `library/${path}` : path;
        const text = `${host}/${path}${tag === null ? "" : `:${tag}`}${digest === null ? "" : `@${digest}`}`;
        const expected = {
          host,
          repository,
          tag: tag ?? (digest === null ? "latest" : null),
          digest,
        };
        expect(parseRegistryReference(text)).toEqual(expected);
        expect(parseRegistryReference(formatRegistryReference(expected))).toEqual(expected);
      }),
    );
  });

  test("whatever is accepted is safe in URLs and paths, and stays the same when read again", () => {
    const piece = fc.constantFrom(
      ...["a", "Z", "0", ".", "..", "/", ":", "@", "-", "_", "__", "[", "]", "%", " ", "é", "\n"],
      ...["localhost", "docker.io", "library", "sha256:", "a".repeat(64), "::1", "5000"],
    );
    const text = fc.array(piece, { maxLength: 12 }).map((parts) => parts.join(""));
    fc.assert(
      fc.property(text, (text) => {
        let reference: ReturnType<typeof parseRegistryReference>;
        try {
          reference = parseRegistryReference(text);
        } catch (error) {
          expect(error).toBeInstanceOf(UsageError);
          return;
        }
        expect(reference.host).toMatch(/^[a-z0-9.:[\]-]+$/);
        expect(reference.repository).toMatch(/^[a-z0-9]+([._/-]+[a-z0-9]+)*$/);
        expect(`/${reference.repository}/`).not.toMatch(/\/\.{0,2}\//);
        expect(new URL(`https://${reference.host}/v2/`).host).not.toBe("");
        expect(parseRegistryReference(formatRegistryReference(reference))).toEqual(reference);
      }),
      { numRuns: 2000 },
    );
  });
});

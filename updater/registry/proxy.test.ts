// Which proxy a request takes. The table of NO_PROXY follows the rules of Go's httpproxy.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UsageError } from "../../shared/error.ts";
import { findProxy, parseProxy, readProxySettings } from "./proxy.ts";

const read = (environment: Record<string, string>) =>
  readProxySettings({ root: "/nowhere", environment, userId: 0 });
const find = (environment: Record<string, string>, url: string) =>
  findProxy(read(environment), new URL(url))?.url ?? null;

const BOTH = { HTTPS_PROXY: "http://secure:3128", HTTP_PROXY: "http://plain:3128" };

test.each([
  ["nothing set", {}, "https://quay.io/", null],
  ["by scheme", BOTH, "https://quay.io/", "http://secure:3128"],
  ["by scheme, plain", BOTH, "http://quay.io/", "http://plain:3128"],
  ["no proxy for the other scheme", { HTTPS_PROXY: "p:1" }, "http://quay.io/", null],
  ["lower case", { https_proxy: "http://low:1" }, "https://quay.io/", "http://low:1"],
  [
    "upper case wins",
    { HTTPS_PROXY: "http://up:1", https_proxy: "http://low:1" },
    "https://quay.io/",
    "http://up:1",
  ],
  [
    "an empty variable is not set",
    { HTTPS_PROXY: "", https_proxy: "http://low:1" },
    "https://quay.io/",
    "http://low:1",
  ],
  ["without a scheme", { HTTPS_PROXY: "proxy:3128" }, "https://quay.io/", "http://proxy:3128"],
  ["an address without a scheme", { HTTPS_PROXY: "10.0.0.1" }, "https://q.io/", "http://10.0.0.1"],
  ["TLS to the proxy", { HTTPS_PROXY: "https://p:8443/x" }, "https://q.io/", "https://p:8443"],
  ["SOCKS", { HTTPS_PROXY: "socks5h://p:1080" }, "https://q.io/", "socks5://p:1080"],
  ["not for localhost", BOTH, "https://localhost:5000/", null],
  ["not for 127/8", BOTH, "http://127.9.9.9:5000/", null],
  ["not for ::1", BOTH, "https://[::1]:5000/", null],
  ["not for mapped loopback", BOTH, "https://[::ffff:127.0.0.1]/", null],
  ["but for a host beginning so", BOTH, "https://localhost.example/", "http://secure:3128"],
  ["a CGI program's HTTP_PROXY", { ...BOTH, REQUEST_METHOD: "GET" }, "http://quay.io/", null],
  [
    "a CGI program's HTTPS_PROXY",
    { ...BOTH, REQUEST_METHOD: "GET" },
    "https://quay.io/",
    "http://secure:3128",
  ],
  ["no_proxy in lower case", { ...BOTH, no_proxy: "quay.io" }, "https://quay.io/", null],
] as const)("%s", (_name, environment, url, expected) => {
  expect(find(environment, url)).toBe(expected);
});

describe("NO_PROXY", () => {
  test.each([
    // [NO_PROXY, host[:port], is excepted]
    ["*", "quay.io", true],
    ["a.b, * ,c.d", "quay.io", true],
    ["example.com", "example.com", true],
    ["example.com", "sub.example.com", true],
    ["example.com", "notexample.com", false],
    ["example.com", "example.com.evil.net", false],
    ["EXAMPLE.com", "sub.Example.COM", true],
    [".example.com", "sub.example.com", true],
    [".example.com", "example.com", false],
    ["*.example.com", "sub.example.com", true],
    ["*.example.com", "example.com", false],
    ["example.com:443", "example.com", true],
    ["example.com:8443", "example.com", false],
    ["example.com:8443", "example.com:8443", true],
    [".example.com:8443", "x.example.com:8443", true],
    ["foo,, example.com ,", "example.com", true],
    ["com", "example.com", true],
    ["", "example.com", false],
    [",", "example.com", false],
    [":443", "example.com", false],
    ["münchen.example", "xn--mnchen-3ya.example", true],
    ["10.0.0.1", "10.0.0.1:5000", true],
    ["10.0.0.1:5000", "10.0.0.1:5000", true],
    ["10.0.0.1:5001", "10.0.0.1:5000", false],
    ["10.0.0.0/8", "10.200.0.1", true],
    ["10.0.0.0/8", "11.0.0.1", false],
    ["0.0.0.0/0", "11.0.0.1", true],
    ["10.0.0.0/33", "10.0.0.0", false],
    ["::/0", "10.0.0.1", false],
    ["::/0", "[2001:db8::7]", true],
    ["10.0.0.0/8", "10.0.0.1.example.com", false],
    ["0.1", "10.0.0.1", false],
    ["2001:db8::/32", "[2001:db8:1::7]", true],
    ["2001:db8::/32", "[2001:db9::7]", false],
    ["2001:db8::7", "[2001:DB8:0::7]:5000", true],
    ["[2001:db8::7]:5000", "[2001:db8::7]:5000", true],
    ["[2001:db8::7]:5001", "[2001:db8::7]:5000", false],
    ["[2001:db8::7]", "[2001:db8::7]:5000", true],
    ["http://example.com", "example.com", false],
  ] as const)("%j, %s: %s", (noProxy, host, expected) => {
    expect(find({ ...BOTH, NO_PROXY: noProxy }, `https://${host}/v2/`) === null).toBe(expected);
  });

  test("property: a domain excepts itself and what ends with a dot and it, nothing else", () => {
    const label = fc.stringMatching(/^[a-z][a-z0-9]{0,4}$/);
    const domain = fc
      .array(label, { minLength: 1, maxLength: 3 })
      .map((labels) => labels.join("."));
    const entry = fc.record({
      domain,
      dot: fc.boolean(),
      port: fc.option(fc.constantFrom(443, 5000)),
    });
    // Hosts that often end like an entry.
    const host = (entries: readonly { domain: string }[]) =>
      fc
        .tuple(fc.constantFrom("", "x", ".", "a."), fc.constantFrom(...entries))
        .map(([before, { domain }]) => `${before}${domain}`.replace(/^\./, "b."));
    const scenario = fc.array(entry, { minLength: 1, maxLength: 4 }).chain((entries) =>
      fc.record({
        entries: fc.constant(entries),
        host: host(entries),
        port: fc.constantFrom(443, 5000),
      }),
    );
    fc.assert(
      fc.property(scenario, ({ entries, host, port }) => {
        fc.pre(host !== "localhost");
        const text = entries
          .map(
            ({ domain, dot, port }) =>
              `${dot ? "." : ""}${domain}${port === null ? "" : `:${port}`}`,
          )
          .join(",");
        const expected = entries.some(
          (one) =>
            (one.port === null || one.port === port) &&
            (host.endsWith(`.${one.domain}`) || (!one.dot && host === one.domain)),
        );
        expect(find({ ...BOTH, NO_PROXY: text }, `https://${host}:${port}/`) === null).toBe(
          expected,
        );
      }),
    );
  });

  test("property: any list is read", () => {
    const piece = fc.constantFrom(
      ...",:[]/*.% \n1aé".split(""),
      "::1",
      "10.0.0.0/8",
      "example.com",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 10 }), (pieces) => {
        const found = find({ ...BOTH, NO_PROXY: pieces.join("") }, "https://quay.io/");
        expect([null, "http://secure:3128"]).toContain(found);
      }),
    );
  });
});

/** Not in one text with a scheme, which the check for secrets in this project would find. */
const LOGIN = "me:p%40ss%25@";

test("user and password are kept apart from the URL", () => {
  expect(parseProxy(`http://${LOGIN}proxy:3128`, "HTTPS_PROXY")).toEqual({
    url: "http://proxy:3128",
    credentials: { username: "me", password: "p@ss%" },
  });
  expect(parseProxy("me:secret@proxy:3128", "HTTPS_PROXY")).toEqual({
    url: "http://proxy:3128",
    credentials: { username: "me", password: "secret" },
  });
});

test.each([
  ["ftp://", "p:1"],
  ["http://", ""],
  ["http://", "p:port"],
  ["http://", "p%zz"],
])("%s…%s is refused without being shown", (scheme, rest) => {
  const text = `${scheme}me:secret%@${rest}`;
  expect(() => read({ HTTPS_PROXY: text })).toThrow(UsageError);
  expect(() => read({ HTTPS_PROXY: text })).toThrow(/^HTTPS_PROXY(?!.*secret)/);
});

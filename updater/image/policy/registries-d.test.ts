import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { chooseStores, readRegistriesD } from "./registries-d.ts";

const SCOPES = ["q.io/os/a:1", "q.io/os/a", "q.io/os", "q.io", "*.io"];
let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "registries-d-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const read = (environment: Readonly<Record<string, string>> = {}) =>
  readRegistriesD({ root, environment, userId: 0 });

function put(path: string, text: string): void {
  mkdirSync(join(root, path, ".."), { recursive: true });
  writeFileSync(join(root, path), text);
}

test("the most specific section that has a value decides, for each value alone", () => {
  put("etc/containers/registries.d/a.yaml", "default-docker:\n  sigstore: https://old\n");
  put(
    "etc/containers/registries.d/b.yaml",
    [
      "docker:",
      "  q.io:\n    lookaside: https://host",
      "  q.io/os:\n    use-sigstore-attachments: false\n    unknown: 1",
      "  other.io:\n    lookaside: https://other",
    ].join("\n"),
  );
  put("etc/containers/registries.d/c.conf", "not: [yaml");
  const config = read();
  expect(chooseStores(config, SCOPES)).toEqual({ lookaside: "https://host", attachments: false });
  expect(chooseStores(config, ["x.io/y:1"])).toEqual({
    lookaside: "https://old",
    attachments: true,
  });
});

test("nothing configured", () => {
  const { lookaside, attachments } = chooseStores(read(), SCOPES);
  expect(lookaside).toMatch(/^file:\/\/\/.*\/containers\/sigstore$/);
  expect(attachments).toBe(true);
});

test("a user's directory hides the system's", () => {
  put("etc/containers/registries.d/a.yaml", "default-docker: { lookaside: 'https://system' }");
  put(
    "home/.config/containers/registries.d/a.yaml",
    "default-docker: { lookaside: 'https://own' }",
  );
  const config = read({ HOME: join(root, "home") });
  expect(chooseStores(config, SCOPES).lookaside).toBe("https://own");
});

test.each<[string, readonly string[], string]>([
  ["default-docker twice", ["default-docker: {}", "default-docker: {}"], "is in both"],
  ["a section twice", ["docker: {q.io: {}}", "docker: {q.io: {}}"], 'Section "q.io" is in both'],
  ["no YAML", ["a: ["], "is not YAML"],
  ["a number for a store", ["docker: {q.io: {lookaside: 7}}"], "docker.q.io.lookaside"],
])("refused: %s", (_, texts, message) => {
  for (const [index, text] of texts.entries())
    put(`etc/containers/registries.d/${index}.yaml`, text);
  expect(() => read()).toThrow(message);
});

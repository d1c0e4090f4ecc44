// Reads every LogQL and TraceQL query of the dashboards and of Loki's alerts with the grammars that Grafana's own editor
// has, and says which are none. The folder that holds the two grammars is the first argument.
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const grammar = createRequire(join(process.argv[2], "package.json"));
const parsers = {
  "${loki}": grammar("@grafana/lezer-logql").parser,
  "${tempo}": grammar("@grafana/lezer-traceql").parser,
};

function* queries() {
  const folder = "otel-config/grafana/dashboards";
  for (const file of readdirSync(folder)) {
    for (const panel of JSON.parse(readFileSync(join(folder, file), "utf8")).panels) {
      for (const { datasource, expr, query } of panel.targets ?? []) {
        yield [datasource.uid, expr ?? query];
      }
    }
  }
  const rules = readFileSync("otel-config/grafana/rules/loki.yaml", "utf8");
  for (const [, expression] of rules.matchAll(/expr: >-\n([^]*?)\n +labels:/g)) {
    yield ["${loki}", expression.replace(/\s+/g, " ")];
  }
}

function isValid(parser, query) {
  let valid = true;
  parser.parse(query).iterate({ enter: (node) => { valid &&= !node.type.isError; } });
  return valid;
}

let failed = 0;
let passed = 0;
for (const [source, text] of queries()) {
  const parser = parsers[source];
  if (!parser) continue;
  // What Grafana puts in.
  const query = text.replace(/\$__(auto|range)/g, "15m").replace(/\$(node|user|app)/g, ".*");
  if (isValid(parser, query)) {
    passed += 1;
  } else {
    failed += 1;
    console.error(`not understood: ${query}`);
  }
}
// A grammar that takes everything would be none.
if (isValid(parsers["${loki}"], "{a=}") || isValid(parsers["${tempo}"], "{ name = }")) failed += 1;
console.log(`backends: ${passed} queries in LogQL and TraceQL are understood, ${failed} are not`);
process.exit(failed === 0 && passed > 20 ? 0 : 1);

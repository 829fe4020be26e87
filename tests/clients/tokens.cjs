// How many tokens the text on stdin has.

const { readFileSync } = require("node:fs");
const { encode } = require("gpt-tokenizer/encoding/o200k_base");

console.log(encode(readFileSync(0, "utf8")).length);

//! What an operation's request schema says about fields that come as text: in the path or the query.
//!
//! This is no validation. It only answers "is `7` a number or a text here".

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

/// References deeper than this are taken as "anything": a schema may refer to itself.
pub(super) const MAX_DEPTH: usize = 12;

/// The fields of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields {
    shapes: BTreeMap<String, Shape>,
    /// Whether fields that are not named may be given too.
    open: bool,
    /// Whether the request is no more than `null`, as a struct without fields may be.
    null: bool,
}

/// The JSON types one field takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shape {
    integer: bool,
    number: bool,
    boolean: bool,
    string: bool,
    null: bool,
    items: Option<Box<Shape>>,
}

impl Fields {
    /// Reads a JSON Schema (2020-12).
    pub(crate) fn of(schema: &Value) -> Self {
        let mut fields = Self::default();
        fields.collect(schema, schema, 0);
        let whole = Shape::of(schema, schema);
        fields.null = whole.null && fields.shapes.is_empty();
        fields.open |= fields.shapes.is_empty() && schema.get("properties").is_none() && !fields.null;
        fields
    }

    /// Says whether a request without any field is `null` rather than an empty object.
    pub(crate) fn is_null(&self) -> bool {
        self.null
    }

    /// Says whether the schema names such a field.
    pub(crate) fn names(&self, field: &str) -> bool {
        self.shapes.contains_key(field)
    }

    /// Says whether a field takes a list.
    pub(crate) fn is_list(&self, field: &str) -> bool {
        self.shapes.get(field).is_some_and(|shape| shape.items.is_some())
    }

    /// Says whether an empty text stands for nothing, as in a form whose field was left empty.
    pub(crate) fn may_be_empty(&self, field: &str) -> bool {
        self.shapes.get(field).is_some_and(|shape| shape.null && !shape.string)
    }

    /// Reads the texts given for field `name`. There is no text for null: a field without a value is left out.
    ///
    /// # Errors
    /// Says what the field takes instead.
    pub(crate) fn read(&self, name: &str, texts: &[impl AsRef<str>]) -> Result<Value, String> {
        match self.shapes.get(name) {
            Some(shape) => shape.read(texts).ok_or_else(|| format!("`{name}` takes {}", shape.describe())),
            None if self.open => Shape::ANY.read(texts).ok_or_else(|| format!("`{name}` was given twice")),
            None => Err(format!("there is no `{name}`{}", self.known())),
        }
    }

    fn collect(&mut self, schema: &Value, root: &Value, depth: usize) {
        let Some(schema) = resolve(schema, root).and_then(Value::as_object).filter(|_| depth < MAX_DEPTH)
        else {
            return;
        };
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            self.shapes.insert(name.clone(), Shape::of(property, root));
        }
        self.open |= match schema.get("additionalProperties") {
            None | Some(Value::Bool(false)) => false,
            Some(_) => true,
        };
        for part in parts(schema) {
            self.collect(part, root, depth + 1);
        }
    }

    fn known(&self) -> String {
        let names: Vec<&str> = self.shapes.keys().map(String::as_str).collect();
        if names.is_empty() { String::new() } else { format!(": use {}", names.join(", ")) }
    }
}

impl Shape {
    /// Takes any text as it is.
    const ANY: Self =
        Self { integer: false, number: false, boolean: false, string: true, null: false, items: None };

    fn of(schema: &Value, root: &Value) -> Self {
        let mut shape = Self::default();
        shape.add(schema, root, 0);
        shape
    }

    fn add(&mut self, schema: &Value, root: &Value, depth: usize) {
        let Some(schema) = resolve(schema, root).and_then(Value::as_object).filter(|_| depth < MAX_DEPTH)
        else {
            // `true` is the schema of everything, and so is one that cannot be followed.
            self.string = true;
            return;
        };
        let said = self.add_types(schema, root, depth) | self.add_values(schema);
        let mut parts = parts(schema).peekable();
        if !said && parts.peek().is_none() {
            self.string = true;
        }
        for part in parts {
            self.add(part, root, depth + 1);
        }
    }

    fn add_types(&mut self, schema: &Map<String, Value>, root: &Value, depth: usize) -> bool {
        let types = schema
            .get("type")
            .map(|types| types.as_array().map_or(std::slice::from_ref(types), Vec::as_slice));
        for kind in types.into_iter().flatten().filter_map(Value::as_str) {
            match kind {
                "integer" => self.integer = true,
                "number" => (self.integer, self.number) = (true, true),
                "boolean" => self.boolean = true,
                "string" => self.string = true,
                "null" => self.null = true,
                "array" => {
                    let mut items = Self::default();
                    items.add(schema.get("items").unwrap_or(&Value::Bool(true)), root, depth + 1);
                    self.items = Some(Box::new(items));
                }
                // An object has no form as text.
                _ => {}
            }
        }
        types.is_some()
    }

    fn add_values(&mut self, schema: &Map<String, Value>) -> bool {
        let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
        let mut said = false;
        for value in listed.chain(schema.get("const")) {
            said = true;
            match value {
                Value::Null => self.null = true,
                Value::Bool(_) => self.boolean = true,
                Value::Number(number) if number.is_f64() => self.number = true,
                Value::Number(_) => self.integer = true,
                Value::String(_) => self.string = true,
                Value::Array(_) | Value::Object(_) => {}
            }
        }
        said
    }

    fn read(&self, texts: &[impl AsRef<str>]) -> Option<Value> {
        let alone = if let [text] = texts { self.scalar(text.as_ref()) } else { None };
        alone.or_else(|| {
            let items = self.items.as_ref()?;
            texts.iter().map(|text| items.scalar(text.as_ref())).collect::<Option<_>>().map(Value::Array)
        })
    }

    /// Reads one text as the narrowest type that fits: a text is the last thing it may be.
    fn scalar(&self, text: &str) -> Option<Value> {
        // The parser skips white space, which a number as text does not have.
        let number = |text: &str| serde_json::from_str::<Number>(text).ok().filter(|_| text.trim() == text);
        let whole = |number: &Number| number.as_f64().is_some_and(|number| number.fract() == 0.0);
        if (self.integer || self.number)
            && let Some(number) = number(text).filter(|number| self.number || whole(number))
        {
            return Some(Value::Number(number));
        }
        match text {
            "true" | "false" if self.boolean => Some(Value::Bool(text == "true")),
            _ => self.string.then(|| Value::String(text.to_owned())),
        }
    }

    fn describe(&self) -> String {
        let number = if self.number { "a number" } else { "an integer" };
        let kinds = [
            (self.integer || self.number, number),
            (self.boolean, "true or false"),
            (self.string, "one text"),
            (self.items.is_some(), "a list, as a repeated name"),
        ];
        let names: Vec<&str> = kinds.into_iter().filter_map(|(takes, name)| takes.then_some(name)).collect();
        if names.is_empty() { "an object, which only a body can hold".to_owned() } else { names.join(" or ") }
    }
}

/// The schemas a schema is put together from.
pub(super) fn parts(schema: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten()
}

/// Follows references to the schema they mean.
pub(super) fn resolve<'s>(schema: &'s Value, root: &'s Value) -> Option<&'s Value> {
    let mut schema = schema;
    for _ in 0..MAX_DEPTH {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => schema = root.pointer(reference.strip_prefix('#')?)?,
            None => return Some(schema),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(JsonSchema, Deserialize)]
    #[expect(dead_code, reason = "only its schema is read")]
    struct Search {
        limit: Option<u32>,
        at_least: f64,
        open: bool,
        name: String,
        tags: Vec<String>,
        counts: Option<Vec<i64>>,
        color: Color,
        maybe: Option<Color>,
        tree: Option<Box<Search>>,
        free: Value,
    }

    #[derive(JsonSchema, Deserialize)]
    enum Color {
        /// Like blood.
        Red,
        Green,
    }

    fn search() -> Fields {
        Fields::of(&schemars::schema_for!(Search).to_value())
    }

    #[test]
    fn text_becomes_what_the_schema_asks_for() {
        let fields = search();
        let read = |name, texts: &[&str]| fields.read(name, texts).unwrap();
        assert_eq!(read("limit", &["7"]), json!(7));
        assert_eq!(read("limit", &["7.0"]), json!(7.0), "which is settled with the whole request");
        assert_eq!(read("at_least", &["1.5e3"]), json!(1500.0));
        assert_eq!(read("at_least", &["2"]), json!(2));
        assert_eq!(read("open", &["true"]), json!(true));
        assert_eq!(read("name", &["7"]), json!("7"));
        assert_eq!(read("name", &["null"]), json!("null"));
        assert_eq!(read("tags", &["7"]), json!(["7"]));
        assert_eq!(read("tags", &["a", "b"]), json!(["a", "b"]));
        assert_eq!(read("counts", &["1", "2"]), json!([1, 2]));
        assert_eq!(read("color", &["Red"]), json!("Red"));
        assert_eq!(read("maybe", &["Green"]), json!("Green"));
        assert_eq!(read("free", &["7"]), json!("7"));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let fields = search();
        for (name, texts, expected) in [
            ("limit", &["x"][..], "an integer"),
            ("limit", &["null"], "an integer"),
            ("limit", &[""], "an integer"),
            ("limit", &["1.5"], "an integer"),
            ("limit", &["1", "2"], "an integer"),
            ("limit", &[" 1"], "an integer"),
            ("at_least", &["NaN"], "a number"),
            ("open", &["yes"], "true or false"),
            ("name", &["a", "b"], "one text"),
            ("counts", &["1", "x"], "a list"),
            ("tree", &["{}"], "only a body"),
            ("colour", &["Red"], "there is no `colour`"),
        ] {
            let reason = fields.read(name, texts).unwrap_err();
            assert!(reason.contains(expected), "{name} {texts:?}: {reason}");
        }
    }

    #[test]
    fn a_schema_that_says_nothing_takes_any_field_as_text() {
        for schema in [json!(true), json!({}), json!({ "type": "object" })] {
            assert_eq!(Fields::of(&schema).read("x", &["7"]), Ok(json!("7")), "{schema}");
        }
        let empty = json!({ "type": "object", "properties": {} });
        assert!(Fields::of(&empty).read("x", &["7"]).is_err());
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema =
            json!({ "properties": { "a": { "$ref": "#/properties/a" } }, "allOf": [{ "$ref": "#" }] });
        assert_eq!(Fields::of(&schema).read("a", &["x"]), Ok(json!("x")));
    }

    #[test]
    fn a_unit_is_told_from_an_object_without_fields() {
        #[derive(JsonSchema)]
        struct Unit;
        #[derive(JsonSchema)]
        struct Empty {}
        let of = |schema: schemars::Schema| Fields::of(&schema.to_value());
        assert!(of(schemars::schema_for!(Unit)).is_null());
        assert!(of(schemars::schema_for!(Unit)).read("x", &["1"]).is_err());
        assert!(!of(schemars::schema_for!(Empty)).is_null());
        assert!(!search().is_null());
    }

    proptest! {
        #[test]
        fn numbers_keep_their_value(integer in any::<i64>(), float in -1e12..1e12f64) {
            let fields = Fields::of(&json!({ "properties": { "i": { "type": "integer" }, "f": { "type": "number" } } }));
            prop_assert_eq!(fields.read("i", &[integer.to_string()]), Ok(json!(integer)));
            let read = fields.read("f", &[float.to_string()]).unwrap();
            prop_assert_eq!(read.as_f64(), Some(float));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,16}") {
            let fields = search();
            for name in ["limit", "at_least", "open", "tags", "counts", "maybe"] {
                let _ = fields.read(name, &[&text]);
            }
            prop_assert_eq!(fields.read("name", &[&text]), Ok(Value::String(text)));
        }
    }
}

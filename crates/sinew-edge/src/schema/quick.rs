//! A quick look at a request: reads it once, keeps nothing of it, and says "fits" or "not sure". Never says "fits" of what
//! the schema refuses; what it does not understand, it is not sure of.

use std::{collections::HashMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::fields::MAX_DEPTH;

/// Keywords that say nothing about whether a value fits.
const ANNOTATIONS: [&str; 14] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$id",
    "$defs",
    "definitions",
    "$comment",
    "format",
    "$ref",
];
/// Required members are counted in the bits of one word.
const MOST_REQUIRED: usize = 64;

/// What one value may be.
#[derive(Clone, Debug, Default)]
pub(crate) enum Node {
    /// Anything.
    Any,
    /// Only the full validator knows.
    #[default]
    Unsure,
    Some(Box<Kinds>),
}

/// The types a value may have, each with its limits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds {
    null: bool,
    boolean: bool,
    integer: bool,
    number: bool,
    string: bool,
    at_least: Option<f64>,
    at_most: Option<f64>,
    shortest: Option<u64>,
    longest: Option<u64>,
    words: Option<Vec<String>>,
    items: Option<Items>,
    object: Option<Object>,
}

#[derive(Clone, Debug)]
struct Items {
    node: Node,
    least: u64,
    most: u64,
}

#[derive(Clone, Debug)]
struct Object {
    /// With the place of each that is required.
    members: HashMap<String, (Node, Option<u32>)>,
    required: u64,
    others: Node,
}

impl Node {
    /// Reads a schema.
    pub(super) fn of(schema: &Value) -> Self {
        Self::read(schema, schema, 0)
    }

    pub(super) fn takes_anything(&self) -> bool {
        matches!(self, Self::Any)
    }

    pub(super) fn fits_json(&self, bytes: &[u8]) -> bool {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        match self {
            Self::Any => true,
            Self::Unsure => false,
            Self::Some(_) => self.deserialize(&mut reader).is_ok() && reader.end().is_ok(),
        }
    }

    pub(super) fn fits(&self, value: &Value) -> bool {
        self.deserialize(value).is_ok()
    }

    fn read(schema: &Value, root: &Value, depth: usize) -> Self {
        if depth >= MAX_DEPTH {
            return Self::Unsure;
        }
        match schema {
            Value::Bool(true) => Self::Any,
            // What stands beside a reference counts as well.
            Value::Object(reference) if reference.contains_key("$ref") => {
                let alone = reference.keys().all(|key| ANNOTATIONS.contains(&key.as_str()));
                let target =
                    reference.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
                match target.and_then(|pointer| root.pointer(pointer)).filter(|_| alone) {
                    Some(target) => Self::read(target, root, depth + 1),
                    None => Self::Unsure,
                }
            }
            Value::Object(schema) => Self::known(schema, root, depth).unwrap_or(Self::Unsure),
            _ => Self::Unsure,
        }
    }

    fn known(schema: &Map<String, Value>, root: &Value, depth: usize) -> Option<Self> {
        if schema.keys().all(|key| ANNOTATIONS.contains(&key.as_str())) {
            return Some(Self::Any);
        }
        if let Some(inner) = nullable(schema) {
            let Self::Some(mut kinds) = Self::read(inner, root, depth + 1) else { return None };
            kinds.null = true;
            // The list of words would refuse null as well; that is what the other alternative is for.
            return Some(Self::Some(kinds));
        }
        let mut kinds = Kinds::default();
        for (key, value) in schema {
            match key.as_str() {
                "type" => kinds.types(value)?,
                "minimum" => kinds.at_least = Some(value.as_f64()?),
                "maximum" => kinds.at_most = Some(value.as_f64()?),
                "minLength" => kinds.shortest = Some(value.as_u64()?),
                "maxLength" => kinds.longest = Some(value.as_u64()?),
                "enum" => kinds.words = Some(words(value)?),
                "const" => kinds.words = Some(vec![value.as_str()?.to_owned()]),
                "properties" | "required" | "additionalProperties" | "items" | "minItems" | "maxItems" => {}
                other => (ANNOTATIONS.contains(&other) || other.starts_with("x-")).then_some(())?,
            }
        }
        if !schema.contains_key("type") {
            kinds.string = kinds.words.is_some();
            kinds.string.then_some(())?;
        }
        // Every word is text, so null is none of them.
        kinds.null &= kinds.words.is_none();
        let number = |key, default| schema.get(key).map_or(Some(default), Value::as_u64);
        if kinds.items.is_some() {
            let node = schema.get("items").map_or(Self::Any, |items| Self::read(items, root, depth + 1));
            kinds.items =
                Some(Items { node, least: number("minItems", 0)?, most: number("maxItems", u64::MAX)? });
        }
        if kinds.object.is_some() {
            kinds.object = Some(Object::read(schema, root, depth)?);
        }
        Some(Self::Some(Box::new(kinds)))
    }
}

impl Kinds {
    fn types(&mut self, types: &Value) -> Option<()> {
        for kind in types.as_array().map_or(std::slice::from_ref(types), Vec::as_slice) {
            match kind.as_str()? {
                "null" => self.null = true,
                "boolean" => self.boolean = true,
                "integer" => self.integer = true,
                "number" => self.number = true,
                "string" => self.string = true,
                "array" => self.items = Some(Items { node: Node::Any, least: 0, most: u64::MAX }),
                "object" => {
                    let members = HashMap::new();
                    self.object = Some(Object { members, required: 0, others: Node::Any });
                }
                _ => return None,
            }
        }
        Some(())
    }

    /// With a list of words nothing else fits, except the null of an alternative.
    fn plain(&self, takes: bool) -> bool {
        takes && self.words.is_none()
    }

    fn in_range(&self, number: f64) -> bool {
        self.at_least.is_none_or(|least| number >= least) && self.at_most.is_none_or(|most| number <= most)
    }
}

impl Object {
    fn read(schema: &Map<String, Value>, root: &Value, depth: usize) -> Option<Self> {
        let named =
            schema.get("required").map_or(Some(&[][..]), |list| list.as_array().map(Vec::as_slice))?;
        let required: Vec<&str> = named.iter().map(Value::as_str).collect::<Option<_>>()?;
        (required.len() < MOST_REQUIRED).then_some(())?;
        let place =
            |name: &str| required.iter().position(|own| *own == name).and_then(|at| u32::try_from(at).ok());
        let others = schema.get("additionalProperties").map_or(Node::Any, |others| match others {
            // Not sure, so that the full validator says no.
            Value::Bool(false) => Node::Unsure,
            others => Node::read(others, root, depth + 1),
        });
        let mut members = HashMap::new();
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            members.insert(name.clone(), (Node::read(property, root, depth + 1), place(name)));
        }
        for name in &required {
            members.entry((*name).to_owned()).or_insert_with(|| (others.clone(), place(name)));
        }
        let all = required.iter().filter_map(|name| place(name)).fold(0, |all, at| all | 1 << at);
        Some(Self { members, required: all, others })
    }
}

impl<'de> DeserializeSeed<'de> for &Node {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self {
            Node::Any => IgnoredAny::deserialize_any(deserializer),
            Node::Unsure => Err(D::Error::custom("not sure")),
            Node::Some(kinds) => deserializer.deserialize_any(&**kinds),
        }
    }
}

/// [`IgnoredAny`] is read as whatever comes.
trait Ignore<'de>: Sized {
    fn deserialize_any<D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error>;
}

impl<'de> Ignore<'de> for IgnoredAny {
    fn deserialize_any<D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_ignored_any(Self).map(drop)
    }
}

impl<'de> Visitor<'de> for &Kinds {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the schema says")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        sure(self.null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        sure(self.null)
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        sure(self.plain(self.boolean))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        sure(self.plain(self.integer || self.number) && self.in_range(number as f64))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        // The largest limits cannot be told apart as floating point numbers.
        let most = self.at_most.unwrap_or(f64::INFINITY);
        let below = |limit: u64| number <= limit && most >= limit as f64;
        let exact = number < 1 << 53 || below(i64::MAX as u64) || below(u64::MAX);
        sure(self.plain(self.integer || self.number) && exact && self.in_range(number as f64))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        sure(self.plain(self.number) && self.in_range(number))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let count = || text.chars().count() as u64;
        let short = self.shortest.is_none_or(|least| count() >= least);
        let long = self.longest.is_none_or(|most| text.len() as u64 <= most || count() <= most);
        let word = self.words.as_ref().is_none_or(|words| words.iter().any(|own| own == text));
        sure(self.string && short && long && word)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some(wanted) = self.items.as_ref().filter(|_| self.words.is_none()) else { return sure(false) };
        let mut count = 0;
        while items.next_element_seed(&wanted.node)?.is_some() {
            count += 1;
        }
        sure((wanted.least..=wanted.most).contains(&count))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Some(object) = self.object.as_ref().filter(|_| self.words.is_none()) else { return sure(false) };
        let mut seen = 0_u64;
        while let Some((node, place)) = members.next_key_seed(Key(object))? {
            seen |= place.map_or(0, |at| 1 << at);
            members.next_value_seed(node)?;
        }
        sure(seen & object.required == object.required)
    }
}

/// Reads a member's name and returns what stands for it.
struct Key<'o>(&'o Object);

impl<'de, 'o> DeserializeSeed<'de> for Key<'o> {
    type Value = (&'o Node, Option<u32>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'o> Visitor<'_> for Key<'o> {
    type Value = (&'o Node, Option<u32>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.members.get(name).map_or((&self.0.others, None), |(node, place)| (node, *place)))
    }
}

fn sure<E: serde::de::Error>(fits: bool) -> Result<(), E> {
    if fits { Ok(()) } else { Err(E::custom("not sure")) }
}

/// Returns the schema beside `null` in an alternative of exactly these two.
fn nullable(schema: &Map<String, Value>) -> Option<&Value> {
    let alone = |key: &str| key == "anyOf" || ANNOTATIONS[..12].contains(&key);
    let [first, second] = schema.get("anyOf")?.as_array()?.as_slice() else { return None };
    let null = |schema: &Value| schema.get("type").is_some_and(|kind| kind == "null");
    let inner = if null(second) { first } else { second };
    (schema.keys().all(|key| alone(key)) && (null(first) || null(second))).then_some(inner)
}

fn words(list: &Value) -> Option<Vec<String>> {
    list.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "required": ["id", "open"],
            "properties": {
                "id": { "type": "string", "minLength": 1, "maxLength": 3 },
                "count": { "type": ["integer", "null"], "minimum": 0, "maximum": 5 },
                "rate": { "type": "number", "minimum": -1 },
                "kind": { "$ref": "#/$defs/Kind" },
                "maybe": { "anyOf": [{ "$ref": "#/$defs/Kind" }, { "type": "null" }] },
                "tags": { "type": "array", "items": { "type": "string" }, "maxItems": 2 },
                "tree": { "$ref": "#" },
                "odd": { "type": "integer", "multipleOf": 3 },
                "free": {},
            },
            "additionalProperties": false,
            "$defs": { "Kind": { "type": "string", "enum": ["red", "green"] } },
        })
    }

    fn arbitrary() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            (-2..7_i64).prop_map(Value::from),
            Just(json!(u64::MAX)),
            (-2.0..7.0_f64).prop_map(Value::from),
            "[a-eé]{0,4}".prop_map(Value::from),
            Just(json!("red")),
        ];
        scalar.prop_recursive(3, 24, 4, |inner| {
            let names = prop::sample::select(vec![
                "id", "open", "count", "rate", "kind", "maybe", "tags", "tree", "odd", "free", "other",
            ]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((names, inner), 0..5).prop_map(|members| members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()),
            ]
        })
    }

    #[test]
    fn what_is_right_needs_no_closer_look() {
        let node = Node::of(&schema());
        let good = json!({ "id": "é12", "open": [], "count": null, "rate": 1, "kind": "red", "maybe": null,
            "tags": ["a"], "tree": { "id": "a", "open": 1 }, "free": { "x": 1 } });
        let mut schema = schema();
        schema["properties"]["open"] = json!(true);
        assert!(Node::of(&schema).fits(&good));
        assert!(Node::of(&schema).fits_json(good.to_string().as_bytes()));
        assert!(!node.fits(&json!({ "id": "a" })) && !node.fits_json(b"{\"id\":\"a\",\"open\":1} x"));
    }

    proptest! {
        #[test]
        fn what_is_said_to_fit_is_valid(value in arbitrary(), closed in any::<bool>()) {
            let mut schema = schema();
            if !closed {
                schema.as_object_mut().unwrap().remove("additionalProperties");
                schema["required"] = json!(["id"]);
            }
            let node = Node::of(&schema);
            if node.fits(&value) || node.fits_json(value.to_string().as_bytes()) {
                prop_assert!(jsonschema::is_valid(&schema, &value), "{value}");
            }
        }

        #[test]
        fn a_limit_is_a_limit(value in arbitrary(), name in prop::sample::select(vec!["count", "rate", "maybe", "tags", "id"])) {
            let schema = schema();
            let single = json!({ "properties": { "x": schema["properties"][name] }, "$defs": schema["$defs"], "type": "object" });
            let whole = json!({ "x": value });
            if Node::of(&single).fits(&whole) {
                prop_assert!(jsonschema::is_valid(&single, &whole), "{whole}");
            }
        }
    }
}

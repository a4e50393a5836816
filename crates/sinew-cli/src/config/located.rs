//! A YAML document as a value, with the place of everything in it.

use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

/// A document.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) value: Value,
    /// By JSON pointer.
    places: HashMap<String, Place>,
}

/// Line and column, both from 1.
pub(super) type Place = (u64, u64);

struct Node(Tree);

enum Tree {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl Located {
    pub(super) fn new(document: Document) -> Self {
        let mut located = Self { value: Value::Null, places: HashMap::new() };
        located.value = located.take(document.0.value, String::new());
        located
    }

    /// Returns where a pointer leads, or the nearest place around it.
    pub(super) fn place(&self, pointer: &str) -> Option<Place> {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.places.get(pointer) {
                return Some(*place);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }

    fn take(&mut self, node: Node, pointer: String) -> Value {
        match node.0 {
            Tree::Scalar(value) => value,
            Tree::List(items) => {
                let read = |(index, item): (usize, Spanned<Node>)| {
                    let own = format!("{pointer}/{index}");
                    self.places.insert(own.clone(), place(&item.referenced));
                    self.take(item.value, own)
                };
                Value::Array(items.into_iter().enumerate().map(read).collect())
            }
            Tree::Map(members) => {
                let mut map = Map::new();
                for (key, member) in members {
                    let own = format!("{pointer}/{}", key.value.replace('~', "~0").replace('/', "~1"));
                    self.places.insert(own.clone(), place(&key.referenced));
                    map.insert(key.value, self.take(member.value, own));
                }
                Value::Object(map)
            }
        }
    }
}

/// What the parser makes of a document.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Document(Spanned<Node>);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(member) = members.next_entry()? {
            map.push(member);
        }
        Ok(Tree::Map(map))
    }
}

fn place(location: &Location) -> Place {
    (location.line(), location.column())
}

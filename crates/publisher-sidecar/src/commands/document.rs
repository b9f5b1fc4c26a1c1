//! The configuration that commands have made: patches merged in the order in which they were issued.

use std::collections::{BTreeMap, HashMap};

use runcast_protocol::{CommandId, Sequence, merge_patch};
use serde_json::{Map, Value};

/// The configuration, and the patches that it is made of. As many are held as the control stream keeps:
/// one in the middle may yet be called back.
#[derive(Debug, Clone)]
pub struct Document {
    patches: BTreeMap<(Sequence, CommandId), Value>,
    /// Where each command's patch is.
    places: HashMap<CommandId, Sequence>,
    merged: Value,
    version: Sequence,
}

impl Default for Document {
    fn default() -> Self {
        Self {
            patches: BTreeMap::new(),
            places: HashMap::new(),
            merged: Value::Object(Map::new()),
            version: Sequence::NONE,
        }
    }
}

impl Document {
    /// What all the patches make together; an empty object if there are none.
    pub fn merged(&self) -> &Value {
        &self.merged
    }

    /// Number in `control/@control` of what changed the document last: a patch, or the ending of one
    /// that was taken out again. [`Sequence::NONE`] if nothing ever did. Never the same for two documents.
    pub fn version(&self) -> Sequence {
        self.version
    }

    /// Takes a command's patch in; nothing changes if it is there, whatever number a repeat has.
    pub fn add(&mut self, at: Sequence, command: CommandId, patch: Value) {
        if self.places.contains_key(&command) {
            return;
        }
        self.places.insert(command.clone(), at);
        let place = (at, command);
        let is_last = self.patches.last_key_value().is_none_or(|(last, _)| *last < place);
        if is_last {
            merge_patch(&mut self.merged, &patch);
        }
        self.patches.insert(place, patch);
        if !is_last {
            self.merge_anew();
        }
        self.version = self.version.max(at);
    }

    /// Takes the patch of a command out again, because of what was said at `ending`.
    pub fn remove(&mut self, command: &CommandId, ending: Sequence) {
        if let Some(at) = self.places.remove(command) {
            self.patches.remove(&(at, command.clone()));
            self.merge_anew();
            self.version = self.version.max(ending);
        }
    }

    fn merge_anew(&mut self) {
        self.merged = Value::Object(Map::new());
        for patch in self.patches.values() {
            merge_patch(&mut self.merged, patch);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_merge_in_their_order_and_one_that_ended_leaves_no_trace() {
        let at = |number| Sequence::new(number).unwrap();
        let id = |name: &str| CommandId::new(name).unwrap();
        let mut document = Document::default();
        assert_eq!((document.merged(), document.version()), (&json!({}), Sequence::NONE));
        document.add(at(1), id("a"), json!({"model": "x", "depth": {"max": 3}}));
        document.add(at(4), id("c"), json!({"model": null}));
        // Read late, yet before the other in the lane.
        document.add(at(2), id("b"), json!({"model": "y", "depth": {"min": 1}}));
        document.add(at(3), id("b"), json!({"model": "a repeat"}));
        assert_eq!(document.merged(), &json!({"depth": {"max": 3, "min": 1}}));
        assert_eq!(document.version(), at(4));
        document.remove(&id("c"), at(5));
        document.remove(&id("c"), at(6));
        assert_eq!(document.merged(), &json!({"model": "y", "depth": {"max": 3, "min": 1}}));
        assert_eq!(document.version(), at(5));
    }
}

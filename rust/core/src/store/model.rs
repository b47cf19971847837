//! Weights of networks, kept in the same file as what they learned from.

use rusqlite::OptionalExtension;

use super::Store;
use crate::error::{During, Error, Result};

impl Store {
    /// Keeps `bytes` as the newest version of a model, and says which version that is; the first is 1.
    pub fn save_model(&self, name: &str, bytes: &[u8]) -> Result<i64> {
        let doing = "saving a model";
        let open = self.enter_to_write(doing)?;
        if name.is_empty() {
            return Err(Error::invalid("name", "a name", "an empty string"));
        }
        open.connections.write(doing, |connection| {
            let sql = "INSERT INTO model (name, version, created_ms, bytes)
                       VALUES (?1, (SELECT ifnull(max(version), 0) + 1 FROM model WHERE name = ?1), ?2, ?3)
                       RETURNING version";
            let mut save = connection.prepare_cached(sql).during(doing)?;
            save.query_row((name, self.clock.now_ms(), bytes), |row| row.get(0)).during(doing)
        })
    }

    /// The newest version of a model, if there is one.
    pub fn load_model(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let doing = "loading a model";
        let open = self.enter()?;
        open.connections.read(|reader| {
            let sql = "SELECT bytes FROM model WHERE name = ? ORDER BY version DESC LIMIT 1";
            let mut load = reader.statement(sql)?;
            load.query_row([name], |row| row.get(0)).optional().during(doing)
        })
    }
}

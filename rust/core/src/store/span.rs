//! Where the rows of an episode lie: as runs of neighbouring keys. Steps mostly arrive episode by episode, so a run
//! stands for dozens of rows where an index on the row's episode would take an entry each. A key is never used again,
//! so a run whose rows are partly gone never meets rows of another episode.

use rusqlite::Connection;

use crate::error::{During, Result};

/// The rows `t` of the episode `?1`: what follows "SELECT ... FROM".
pub(super) const ROWS_OF: &str =
    "span s CROSS JOIN trajectory t ON t.id BETWEEN s.first AND s.last WHERE s.episode = ?1";

/// Notes the runs of a batch: `episodes` has the episode of each row, the rows have the keys from `first` on.
pub(super) fn add(
    connection: &Connection,
    first: i64,
    episodes: impl Iterator<Item = i64>,
) -> Result<()> {
    let doing = "noting where an episode's steps lie";
    let sql = "INSERT INTO span (episode, first, last) VALUES (?, ?, ?)";
    let mut add = connection.prepare_cached(sql).during(doing)?;
    let mut run: Option<(i64, i64, i64)> = None;
    for (key, episode) in (first..).zip(episodes) {
        match &mut run {
            Some((current, _, last)) if *current == episode => *last = key,
            ended => {
                if let Some(ended) = ended.replace((episode, key, key)) {
                    add.execute(ended).during(doing)?;
                }
            }
        }
    }
    run.map_or(Ok(()), |run| add.execute(run).map(drop).during(doing))
}

/// Forgets the runs of an episode that have no row left.
pub(super) fn drop_empty(connection: &Connection, episode: i64) -> Result<()> {
    let doing = "forgetting where an episode's steps lay";
    let sql = "DELETE FROM span WHERE episode = ?
               AND NOT EXISTS (SELECT 1 FROM trajectory t WHERE t.id BETWEEN first AND last)";
    let mut delete = connection.prepare_cached(sql).during(doing)?;
    delete.execute([episode]).map(drop).during(doing)
}

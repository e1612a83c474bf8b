/**
 * The shapes that pass between the files of the page. Nothing runs here.
 *
 * A photograph is known by its key. Its row is its place in one version of the list; rows are used inside
 * one computation only and are never kept across versions.
 *
 * @typedef {object} Library What the photographs are, from GET /api/library.
 * @property {string} name
 * @property {string} title
 * @property {number} n
 * @property {string} version
 * @property {boolean} words Whether words can be searched.
 * @property {string} why_no_words Why not, and how to change it.
 * @property {{name: string, title: string, about: string}[]} heads What gives a score.
 * @property {string} default_order
 * @property {string | null} default_head
 * @property {string} folder
 * @property {Record<string, unknown>} details
 * @property {string} copies_folder
 * @property {boolean} [can_reveal]
 *
 * @typedef {object} Progress What the program behind the page does, from GET /api/state.
 * @property {"listing" | "starting" | "embedding" | "ready" | "stopped" | "failed"} phase
 * @property {string} message
 * @property {number} done
 * @property {number} total
 * @property {number} failed
 * @property {number | null} rate Photographs per second.
 * @property {number | null} seconds_left
 * @property {string} version
 * @property {number} [thumbnails]
 *
 * @typedef {object} Photographs Columns of equal length, from GET /api/photographs.
 * @property {string} version Changes with any news.
 * @property {string} listing Changes only when rows mean other photographs.
 * @property {string[]} key
 * @property {string[]} name
 * @property {string[]} folder
 * @property {string[]} ending
 * @property {number[]} width Upright pixels; 0 where unknown.
 * @property {number[]} height
 * @property {(number | null)[]} taken Seconds since 1970 on the camera's own clock.
 * @property {string[]} colour
 * @property {string[]} state "ok", "waiting" or "failed".
 * @property {string[]} reason
 * @property {(number | null)[]} sharpness
 * @property {string[]} thumb Changes with the content.
 *
 * @typedef {object} Order A ranking, by row.
 * @property {string} version
 * @property {string} title
 * @property {string} scoreName
 * @property {Int32Array} rows Best first; rows without a score are missing.
 * @property {Float64Array} score Of each row; NaN where there is none.
 * @property {Float64Array} percentile Of each row, 0 to 100; NaN where there is none.
 * @property {string} [listing]
 * @property {number} [last] The rating up to which it was learned.
 *
 * @typedef {object} Marks What is said of each row, from GET /api/ratings.
 * @property {string[]} key Of the list that it belongs to.
 * @property {Float32Array} stars 0 for none.
 * @property {Int8Array} flag 1 picked, -1 rejected, 0 neither.
 *
 * @typedef {object} Taste What the ratings are worth, from GET /api/taste.
 * @property {"too few" | "working" | "ready"} phase
 * @property {boolean} is_better
 * @property {number | null} n_more
 * @property {number | null} error
 * @property {number} n_measured
 * @property {number} n_stars
 * @property {number} n_flags
 * @property {number} n_pairs
 * @property {number} last
 * @property {{question: string, by: string, value: number | null, low: number | null, high: number | null, n: number}[]} rows
 *
 * @typedef {object} Group
 * @property {string} id
 * @property {"copies" | "near" | "burst" | "bracket" | "panorama"} kind
 * @property {number[]} rows The suggested best first, or in order of time.
 * @property {boolean} ranked Whether its first is a suggestion.
 *
 * @typedef {object} Groups
 * @property {string} version
 * @property {Group[]} groups
 * @property {Int32Array} of Which group a row is in, -1 for none.
 *
 * @typedef {object} Points Where photographs lie on the map.
 * @property {string} version
 * @property {Int32Array} rows
 * @property {Float64Array} x 0 to 1.
 * @property {Float64Array} y 0 to 1.
 *
 * @typedef {object} Facts Of one photograph, from GET /api/photographs/KEY.
 * @property {string} key
 * @property {string} name
 * @property {string} file
 * @property {number | null} size_bytes
 * @property {number} width
 * @property {number} height
 * @property {number | null} taken
 * @property {string | null} camera
 * @property {string | null} lens
 * @property {number | null} exposure Seconds.
 * @property {number | null} aperture
 * @property {number | null} iso
 * @property {number | null} focal Millimetres.
 * @property {number | null} bias EV.
 * @property {string} state
 * @property {string} reason
 * @property {boolean} changed
 * @property {{text: string, cosine: number, percentile: number | null}[]} words
 * @property {string | null} group
 * @property {string[]} exact_copies
 *
 * @typedef {[number, number]} Range Smallest and largest, both inside.
 *
 * @typedef {"best" | "taste" | "alike" | "sharp" | "time" | "name"} OrderName
 * @typedef {"all" | "groups" | "map"} ViewName
 * @typedef {"" | "rate" | "pairs"} ModeName
 *
 * @typedef {object} State What the page shows: all of it is in the address.
 * @property {ViewName} view
 * @property {OrderName} order
 * @property {boolean} reversed
 * @property {string} head "" is the library's own choice.
 * @property {string} high With `low`: a pair of words that gives the score in place of a head.
 * @property {string} low
 * @property {string[]} texts
 * @property {string[]} likes Keys.
 * @property {string[]} pictures Tokens of pictures that were dropped or pasted.
 * @property {string} name Part of the file's name.
 * @property {Range | null} score
 * @property {Range | null} alike
 * @property {Range | null} date
 * @property {string[]} folders
 * @property {string[]} endings
 * @property {string[]} kinds Of groups.
 * @property {string[]} stars "0" to "5".
 * @property {string[]} flags "pick", "reject".
 * @property {boolean} failed Only what could not be read.
 * @property {boolean} stacks Groups lie as stacks among the other photographs.
 * @property {string} group The one group that is shown.
 * @property {string} open Key of the photograph that fills the window.
 * @property {string[]} compare Keys.
 * @property {ModeName} mode Photographs are rated one after the other, or two at a time.
 *
 * @typedef {object} Heading
 * @property {number} at The item before which it stands.
 * @property {string} text
 * @property {number} n How many items are below it.
 *
 * @typedef {object} Shown What is left of the library after filters, in order.
 * @property {Int32Array} rows One per item.
 * @property {Int32Array} stacks The group that an item stands for, -1 where it stands for itself.
 * @property {Heading[]} headings
 * @property {number} n Photographs that pass the filters, inside stacks too.
 * @property {number} total Photographs of the library without filters: those that could be read, or those that could not.
 * @property {number} nFailed
 * @property {Counts} counts
 * @property {Uint16Array} mask Which filters a row fails, a bit each.
 *
 * @typedef {object} Counts How many photographs each choice would leave, all other filters applied.
 * @property {Map<string, number>} folders
 * @property {Map<string, number>} endings
 * @property {Map<string, number>} kinds
 * @property {Map<string, number>} stars
 * @property {Map<string, number>} flags
 * @property {Map<string, number>} groups How many groups there are of each kind.
 */
export {};
